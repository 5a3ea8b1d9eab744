package autoscale

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a trace.
const (
	maxJobs = 50_000_000
	maxLine = 4096
	maxSpan = 20 * 366 * 24 * time.Hour
)

// ReadTrace reads a demand trace: a job a line, its arrival and its duration
// separated by a comma, and, optional, how many such jobs arrive at that
// moment.
//
//	# arrival,duration,count
//	2026-03-02T08:00:00Z,3m20s
//	2026-03-02T08:00:05Z,45s,10
//
// An arrival is a time of RFC 3339 or a number of seconds (all of a trace of
// one kind), a duration is written as Go writes it or a number of seconds.
// Empty lines and those that begin with # are left out, and so is a first line
// of column names. The jobs need not be in order; they are returned so. An
// error names the line.
func ReadTrace(r io.Reader) ([]Job, error) { return readTrace(r, maxJobs) }

func readTrace(r io.Reader, most int) ([]Job, error) {
	var jobs []Job
	var kind string
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for first := true; in.Scan(); {
		n++
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		j, count, k, err := readJob(line)
		if err != nil {
			if first && strings.HasPrefix(strings.ToLower(line), "arrival") {
				first = false
				continue
			}
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		first = false
		if kind == "" {
			kind = k
		} else if k != kind {
			return nil, fmt.Errorf("line %d: the arrival is a %s, before it was a %s", n, k, kind)
		}
		if count > most-len(jobs) {
			return nil, fmt.Errorf("line %d: more than %d jobs", n, most)
		}
		for range count {
			jobs = append(jobs, j)
		}
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d characters", n+1, maxLine)
	} else if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, errors.New("there is no job in it")
	}
	slices.SortStableFunc(jobs, func(a, b Job) int { return a.Arrival.Compare(b.Arrival) })
	if span := jobs[len(jobs)-1].Arrival.Sub(jobs[0].Arrival); span > maxSpan {
		return nil, fmt.Errorf("it spans %s, more than twenty years", span)
	}
	return jobs, nil
}

func readJob(line string) (j Job, count int, kind string, err error) {
	fields := strings.Split(line, ",")
	if len(fields) < 2 || len(fields) > 3 {
		return j, 0, "", fmt.Errorf("found %d fields, want arrival,duration or arrival,duration,count", len(fields))
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	if j.Arrival, kind, err = readArrival(fields[0]); err != nil {
		return j, 0, "", err
	}
	if j.Duration, err = readDuration(fields[1]); err != nil {
		return j, 0, "", err
	}
	count = 1
	if len(fields) == 3 {
		if count, err = strconv.Atoi(fields[2]); err != nil || count < 0 {
			return j, 0, "", fmt.Errorf("found the count %q, want a whole number", fields[2])
		}
	}
	return j, count, kind, nil
}

func readArrival(text string) (time.Time, string, error) {
	if sec, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(sec) || sec < 0 || sec > 1e11 {
			return time.Time{}, "", fmt.Errorf("the arrival %q is out of range", text)
		}
		whole, part := math.Modf(sec)
		return time.Unix(int64(whole), int64(part*1e9)).UTC(), "number", nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, "", fmt.Errorf("found the arrival %q, want a number of seconds or a time such as 2026-03-02T08:00:00Z", text)
	}
	return t, "time", nil
}

func readDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		sec, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || math.IsNaN(sec) || math.Abs(sec) > 1e9 {
			return 0, fmt.Errorf("found the duration %q, want a number of seconds or a duration such as 3m20s", text)
		}
		d = time.Duration(sec * float64(time.Second))
	}
	if d < 0 || d > 366*24*time.Hour {
		return 0, fmt.Errorf("the duration %q is out of range", text)
	}
	return d, nil
}

// Shape is how demand is spread over time.
type Shape string

// The shapes.
const (
	Flat   Shape = "flat"   // the same at every hour
	Office Shape = "office" // working days with two peaks, quiet nights and weekends
	Bursts Shape = "bursts" // flat, and every hour a burst of as much as an hour brings
)

// Shapes lists every shape.
func Shapes() []Shape { return []Shape{Flat, Office, Bursts} }

// Made describes a trace that is made up.
type Made struct {
	Start      time.Time
	Days       int
	JobsPerDay int // of a working day
	Duration   time.Duration
	Shape      Shape
	Seed       uint64
}

// Trace makes a trace up: arrivals at random with the shape's density, and
// durations of which most are shorter than the mean and a few much longer
// (log-normal), as those of CI jobs are.
func (m Made) Trace() []Job {
	rnd := rand.New(rand.NewPCG(m.Seed, 2)) //nolint:gosec // it must be repeatable
	var jobs []Job
	for hour := range m.Days * 24 {
		at := m.Start.Add(time.Duration(hour) * time.Hour)
		expected := float64(m.JobsPerDay) * weight(m.Shape, at)
		n := poisson(rnd, expected)
		for range n {
			jobs = append(jobs, Job{at.Add(time.Duration(rnd.Float64() * float64(time.Hour))), duration(rnd, m.Duration)})
		}
		if m.Shape == Bursts {
			for range n {
				jobs = append(jobs, Job{at.Add(time.Duration(rnd.Float64() * float64(time.Minute))), duration(rnd, m.Duration)})
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b Job) int { return a.Arrival.Compare(b.Arrival) })
	return jobs
}

// officeHours is the share of a working day's jobs that an hour brings.
func officeHours(hour int) float64 {
	curve := [24]float64{1, 1, 2, 1, 1, 1, 2, 4, 8, 12, 14, 12, 8, 10, 13, 12, 10, 7, 4, 3, 2, 2, 1, 1}
	var sum float64
	for _, c := range curve {
		sum += c
	}
	return curve[hour] / sum
}

func weight(s Shape, at time.Time) float64 {
	switch s {
	case Office:
		w := officeHours(at.Hour())
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			w /= 8
		}
		return w
	case Bursts:
		return 1.0 / 48
	default:
		return 1.0 / 24
	}
}

// poisson draws a number with the given mean.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	limit, p := math.Exp(-mean), 1.0
	for n := 0; ; n++ {
		p *= r.Float64()
		if p <= limit {
			return n
		}
	}
}

// duration draws from a log-normal distribution with the given mean.
func duration(r *rand.Rand, mean time.Duration) time.Duration {
	const sigma = 0.9
	f := math.Exp(sigma*r.NormFloat64() - sigma*sigma/2)
	return time.Duration(float64(mean) * min(f, 50))
}
