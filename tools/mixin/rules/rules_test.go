package rules_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/tools/mixin/rules"
)

// TestAlerts holds the alerts to what every one of them must have.
func TestAlerts(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, g := range rules.Groups() {
		for _, a := range g.Alerts {
			if names[a.Name] || !regexp.MustCompile(`^Runner[A-Z][A-Za-z]+$`).MatchString(a.Name) {
				t.Errorf("%s: the name is taken or not of the form RunnerIsSo", a.Name)
			}
			names[a.Name] = true
			switch a.Severity {
			case rules.Critical, rules.Warning, rules.Info:
			default:
				t.Errorf("%s has the severity %q", a.Name, a.Severity)
			}
			for _, text := range []string{a.Summary, a.Description} {
				if !strings.HasSuffix(text, ".") {
					t.Errorf("%s: %q is no sentence", a.Name, text)
				}
			}
			if strings.Contains(a.Description, "{{ why }}") != (a.Why != "") || strings.Count(a.Why, "%q") != len(a.WhyLabels) {
				t.Errorf("%s: the query for the cause does not fit the description", a.Name)
			}
		}
		if len(g.Alerts) > 0 {
			if _, err := rules.TestFiles(g); err != nil {
				t.Error(err)
			}
		}
		for _, r := range g.Records {
			if strings.Count(r.Name, ":") != 2 {
				t.Errorf("%s is not of the form level:metric:operations", r.Name)
			}
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", 20 * time.Second: "20s",
	} {
		if got := rules.Duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// TestTestFiles refuses an alert that is tested one way only.
func TestTestFiles(t *testing.T) {
	t.Parallel()
	c := []rules.Case{{Name: "x", At: 60e9}}
	for name, a := range map[string]rules.Alert{
		"no test of firing":           {Name: "A", Silent: c},
		"no test of staying silent":   {Name: "A", Fires: c},
		"no test of waiting":          {Name: "A", For: 60e9, Fires: c, Silent: c},
		"a label that the test lacks": {Name: "A", Summary: "{{ $labels.x }}", Fires: c, Silent: c},
	} {
		if _, err := rules.TestFiles(rules.Group{Name: "g", Alerts: []rules.Alert{a}}); err == nil {
			t.Errorf("%s: there is no error", name)
		}
	}
}
