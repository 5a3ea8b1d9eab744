package joblog_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// TestFaults drives whole jobs through random faults.
func TestFaults(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11)) // of the job
			f := rand.New(rand.NewPCG(seed, 12)) // of the faults
			s := newSink(t)
			rate := r.Float64() * 0.9
			outage := time.Duration(r.IntN(300)) * time.Second
			quiet := outage + time.Duration(r.IntN(300))*time.Second
			finals := 0
			s.hook = func(what string, off int64, p []byte) (job.Ack, error, bool) {
				since := time.Since(s.start)
				if what == "success" {
					finals++
				}
				if since > outage && since < quiet {
					return job.Ack{Result: job.Trouble, Status: -1}, errors.New("no route"), true
				}
				// The faults end, for otherwise there would be nothing to show.
				if since > 20*time.Minute || f.Float64() > rate || finals > 4 {
					return job.Ack{}, nil, false
				}
				switch k := f.IntN(7); {
				case k == 0 && what == "append": // lost answer
					a := s.keep(off, p)
					return job.Ack{Status: -1, Interval: a.Interval}, errors.New("reset"), true
				case k == 1 && what == "append": // the end is lost on the coordinator
					s.stored = s.stored[:f.IntN(len(s.stored)+1)]
					return job.Ack{Result: job.Rewind, Status: 416, Offset: int64(len(s.stored))}, nil, true
				case k == 2:
					return job.Ack{Result: job.Trouble, Status: 500}, errors.New("500"), true
				case k == 3:
					return job.Ack{Result: job.Trouble, Status: 429, Interval: time.Duration(f.IntN(20)) * time.Second}, nil, true
				case k == 4 && what == "append":
					a := s.keep(off, p)
					a.Interval = time.Duration(1+f.IntN(60)) * time.Second
					return a, nil, true
				case k == 5 && what == "success":
					return job.Ack{Result: job.Incomplete, Status: 202, Interval: time.Second}, nil, true
				case k == 6 && what == "success":
					s.stored = nil
					return job.Ack{Result: job.Mismatch, Status: 412}, nil, true
				}
				return job.Ack{}, nil, false
			}
			m := redact.New(redact.Rules{Phrases: []string{"secret"}})
			l, path := create(t, joblog.Options{Masker: m, Timestamps: seed%2 == 0, Limit: 1 << 30})
			u := joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: s, ChunkSize: 1 + r.IntN(5000), FinalRetries: 100})
			done := make(chan struct{})
			go func() { defer close(done); u.Run(t.Context()) }()
			w := []*joblog.Stream{l.Stream(1, false), l.Stream(1, true)}
			for range r.IntN(200) {
				write(t, w[r.IntN(2)], strings.Repeat("a secret €\r\n", r.IntN(50)))
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
			if err := u.Finish(t.Context(), job.Update{State: job.WireSuccess}); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			<-done
			same(t, s, path)
			if strings.Contains(string(s.stored), "secret") {
				t.Errorf("seed %d: a secret was sent", seed)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			if err := l.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}
