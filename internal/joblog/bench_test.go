package joblog_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// discard takes everything.
type discard struct{}

func (discard) Append(_ context.Context, off int64, p []byte) (job.Ack, error) {
	return job.Ack{Status: 202, Offset: off + int64(len(p))}, nil
}

func (discard) Update(context.Context, job.Update) (job.Ack, error) {
	return job.Ack{Status: 200}, nil
}

// BenchmarkJob prints 50 MB in one job and uploads it.
func BenchmarkJob(b *testing.B) {
	var secrets []string
	for i := range 20 {
		secrets = append(secrets, fmt.Sprintf("%x-secret-%d", i*7919, i))
	}
	m := redact.New(redact.Rules{Phrases: secrets, TokenPrefixes: strings.Fields("gloas- gldt- glrt- glcbt- glrtr- glptt- glft- glimt- glagent- glsoat- glffct- _gitlab_session= gltok-")})
	const total = 50_000_000
	for _, n := range []int{64 << 10, 4 << 10, 100} {
		b.Run(fmt.Sprintf("writes=%d", n), func(b *testing.B) {
			var text strings.Builder
			for i := 0; text.Len() < 1<<20; i++ {
				fmt.Fprintf(&text, "[%6d/100000] compiling internal/package%d/file.go for linux/amd64, 12.5%% done\n", i, i%97)
			}
			in := []byte(text.String())
			b.SetBytes(total)
			b.ReportAllocs()
			dir := b.TempDir()
			i := 0
			before := cpu(b)
			for b.Loop() {
				l, err := joblog.Create(joblog.Options{Path: filepath.Join(dir, fmt.Sprint(i)), Limit: 1 << 30, Masker: m, Timestamps: true})
				if err != nil {
					b.Fatal(err)
				}
				i++
				u := joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: discard{}, FirstDelay: time.Millisecond, Interval: 20 * time.Millisecond})
				go u.Run(b.Context())
				s := l.Stream(1, false)
				for done, at := 0, 0; done < total; done += n {
					if at+n > len(in) {
						at = 0
					}
					_, _ = s.Write(in[at : at+n])
					at += n
				}
				if err := u.Finish(b.Context(), job.Update{State: job.WireSuccess}); err != nil {
					b.Fatal(err)
				}
				if err := l.Remove(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(i), "cpu-ms/op")
		})
	}
}

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
