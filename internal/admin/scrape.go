package admin

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	// Adds zstd to what promhttp can compress with; gzip is built in.
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// textGatherer is a Gatherer that can write the text formats itself, which
// it does faster than anybody could from what it gathers.
type textGatherer interface {
	AppendText(dst []byte, openMetrics bool) ([]byte, error)
}

// scrapes answers /metrics: the two text formats from a textGatherer,
// everything else through the client library.
type scrapes struct {
	text   textGatherer // nil: the library does it all
	other  http.Handler
	slots  chan struct{}
	errors prometheus.Counter
	log    *slog.Logger
	bufs   sync.Pool // *[]byte
	gzips  sync.Pool // *gzip.Writer
	zstds  sync.Pool // *zstd.Encoder
}

// metrics answers GET and HEAD of /metrics.
func (s *Server) metrics() http.Handler {
	reg := s.o.Registry
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promhttp_metric_handler_errors_total", Help: "Total number of internal errors encountered by the promhttp metric handler.",
	}, []string{"cause"})
	reg.MustRegister(failures) // promhttp finds it and counts in it, too
	text, _ := s.o.Gatherer.(textGatherer)
	m := &scrapes{
		text: text,
		other: promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{
			ErrorLog:      slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
			ErrorHandling: promhttp.ContinueOnError,
			Registry:      reg,
			// The slots are given back before the answer is sent, here too:
			// what Timeout makes keeps the answer until it is complete.
			MaxRequestsInFlight: s.o.MaxScrapes,
			Timeout:             s.o.ScrapeTimeout,
			EnableOpenMetrics:   true,
			// OpenMetrics 1.0 wants _created; who does not reads another format.
			EnableOpenMetricsTextCreatedSamples: true,
		}),
		slots:  make(chan struct{}, s.o.MaxScrapes),
		errors: failures.WithLabelValues("gathering"),
		log:    s.o.Log,
	}
	h := promhttp.InstrumentMetricHandler(reg, m)
	started := strconv.FormatInt(s.o.Started.Unix(), 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !reads(w, r) {
			return
		}
		w.Header().Set("Process-Start-Time-Unix", started)
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP answers a scrape, or 503 when too many are being gathered. The
// time that it takes a client to read the answer is not part of that: a slow
// reader keeps nobody out.
func (m *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format, fast := m.format(r)
	if !fast {
		m.other.ServeHTTP(w, r)
		return
	}
	select {
	case m.slots <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("%d scrapes are being answered, which is as many as can be at once: try again later", cap(m.slots)), http.StatusServiceUnavailable)
		return
	}
	plain, packed := m.buffer(), m.buffer()
	defer m.bufs.Put(plain)
	defer m.bufs.Put(packed)
	body, coding := m.write(plain, packed, format.FormatType() == expfmt.TypeOpenMetrics, r.Header.Get("Accept-Encoding"))
	if len(body) == 0 {
		http.Error(w, "the metrics could not be gathered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", string(format))
	h.Set("Vary", "Accept, Accept-Encoding")
	if coding != "" {
		h.Set("Content-Encoding", coding)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) //nolint:gosec // not HTML; a client that went away has no need of it
}

// write makes the answer in one of the buffers and gives the slot back.
func (m *scrapes) write(plain, packed *[]byte, openMetrics bool, accept string) (body []byte, coding string) {
	defer func() { <-m.slots }()
	var err error
	if *plain, err = m.text.AppendText((*plain)[:0], openMetrics); err != nil {
		m.errors.Inc()
		m.log.Debug("Monitoring server: gathering", "error", err)
	}
	if coding = acceptedCoding(accept); coding != "" && len(*plain) > 0 {
		if *packed, err = m.compress((*packed)[:0], *plain, coding); err == nil {
			return *packed, coding
		}
		m.log.Debug("Monitoring server: compressing", "error", err)
	}
	return *plain, ""
}

func (m *scrapes) buffer() *[]byte {
	if b, ok := m.bufs.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

// format returns what r wants to read, and whether the textGatherer writes
// it: not when only some families are wanted, nor with one of the escapings
// that change names without need.
func (m *scrapes) format(r *http.Request) (expfmt.Format, bool) {
	f := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	if m.text == nil || r.URL.Query().Has("name[]") {
		return f, false
	}
	switch f.ToEscapingScheme() {
	case model.UnderscoreEscaping, model.NoEscaping:
	default:
		return f, false
	}
	switch f.FormatType() {
	case expfmt.TypeTextPlain:
		return f, strings.Contains(string(f), "version="+expfmt.TextVersion)
	case expfmt.TypeOpenMetrics:
		return f, strings.Contains(string(f), "version="+expfmt.OpenMetricsVersion_1_0_0)
	}
	return f, false
}

// acceptedCoding returns "zstd", "gzip" or "" for none. Of what a client
// likes equally it takes the one that is named first.
func acceptedCoding(header string) string {
	best, bestQ := "", 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "gzip" && name != "zstd" {
			continue
		}
		q := 1.0
		if v, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil {
				continue
			}
			q = n
		}
		if q > bestQ {
			best, bestQ = name, q
		}
	}
	return best
}

// compress appends src, compressed quickly rather than best: a scrape goes
// over a short way.
func (m *scrapes) compress(dst, src []byte, coding string) ([]byte, error) {
	if coding == "zstd" {
		e, ok := m.zstds.Get().(*zstd.Encoder)
		if !ok {
			var err error
			if e, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest)); err != nil {
				return dst, err
			}
		}
		defer m.zstds.Put(e)
		return e.EncodeAll(src, dst), nil
	}
	out := appender(dst)
	z, ok := m.gzips.Get().(*gzip.Writer)
	if !ok {
		var err error
		if z, err = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed); err != nil {
			return dst, err
		}
	}
	defer m.gzips.Put(z)
	z.Reset(&out)
	if _, err := z.Write(src); err != nil {
		return dst, err
	}
	err := z.Close()
	return out, err
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}
