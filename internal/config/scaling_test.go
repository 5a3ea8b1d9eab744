package config_test

import (
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
)

func TestScalingPolicyContains(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name    string
		periods []string
		zone    string
		now     string
		want    bool
	}{
		{"no period", nil, "UTC", "2026-03-02T08:00:00Z", true},
		{"every minute", []string{"* * * * *"}, "UTC", "2026-03-02T08:00:31Z", true},
		{"the first second of working hours", []string{"* 8-17 * * mon-fri"}, "UTC", "2026-03-02T08:00:00Z", true},
		{"the last second of them", []string{"* 8-17 * * mon-fri"}, "UTC", "2026-03-02T17:59:59Z", true},
		{"after them", []string{"* 8-17 * * mon-fri"}, "UTC", "2026-03-02T18:00:00Z", false},
		{"on a Sunday", []string{"* 8-17 * * mon-fri"}, "UTC", "2026-03-01T12:00:00Z", false},
		{"the second of two", []string{"* 0 * * *", "* 8 * * *"}, "UTC", "2026-03-02T08:30:00Z", true},
		{"another time zone", []string{"* 8 * * *"}, "Asia/Tokyo", "2026-03-01T23:30:00Z", true},
		{"the hour that a clock change skips", []string{"* 2 * * *"}, "Europe/Berlin", "2026-03-29T01:30:00Z", false},
		{"an unknown time zone", []string{"* * * * *"}, "Nowhere/Else", "2026-03-02T08:00:00Z", false},
		{"nonsense", []string{"every day"}, "UTC", "2026-03-02T08:00:00Z", false},
	} {
		p := config.ScalingPolicy{Periods: c.periods, Timezone: c.zone}
		if got := p.Contains(at(c.now)); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}
