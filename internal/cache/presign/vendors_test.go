package presign

import (
	"encoding/json"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

// vendors are addresses that the vendors' own libraries signed.
type vendors struct {
	Azure []struct {
		Account, Key, Container, Blob, Permissions, Query string
		Start, Expiry                                     time.Time
	}
	GCS []struct {
		Method, Bucket, Object, Date, URL string
		Headers                           map[string]string
		Expires                           int
	}
	GCSAccount, GCSKey string
}

// TestVendors signs what the vendors' libraries signed, with the same result.
func TestVendors(t *testing.T) {
	text, err := os.ReadFile("testdata/vendors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vendors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Azure) == 0 || len(v.GCS) == 0 {
		t.Fatal("there is nothing to compare")
	}
	for _, want := range v.Azure {
		a, err := newAzure(&config.CacheAzure{AccountName: want.Account, AccountKey: job.Secret(want.Key), ContainerName: want.Container})
		if err != nil {
			t.Fatal(err)
		}
		now := want.Start.Add(time.Hour)
		a.now = func() time.Time { return now }
		got := a.signed(object{name: want.Blob, life: want.Expiry.Sub(now)}, want.Permissions)
		compare(t, "https://acc.blob.core.windows.net/con/"+url.PathEscape(want.Blob)+"?"+want.Query, got.Reveal())
	}
	for _, want := range v.GCS {
		g, err := newGCS(&config.CacheGCS{AccessID: v.GCSAccount, PrivateKey: job.Secret(v.GCSKey), BucketName: want.Bucket}, 0)
		if err != nil {
			t.Fatal(err)
		}
		g.now = func() time.Time {
			at, err := time.Parse("20060102T150405Z", want.Date)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		got, err := g.signed(want.Method, object{name: want.Object, life: time.Duration(want.Expires) * time.Second}, want.Headers)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, want.URL, got.Reveal())
	}
}

func compare(t *testing.T, want, got string) {
	t.Helper()
	w, err := url.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	g, err := url.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if w.Scheme != g.Scheme || w.Host != g.Host || w.Path != g.Path {
		t.Errorf("got %s, want %s", g, w)
	}
	if diff := cmp.Diff(w.Query(), g.Query()); diff != "" {
		t.Errorf("%s (-vendor +got):\n%s", w.Path, diff)
	}
}
