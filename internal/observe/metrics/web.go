package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// web is what becomes of the file that protects the monitoring server.
type web struct {
	ok, failed prometheus.Counter
	last       gaugeVec
}

func newWeb(c *catalogue) *web {
	reloads := c.counter(def{
		name: "glassrunner_web_config_loads_total", help: "Times that the web configuration file of the monitoring server, or a certificate that it names, was read because it had changed.",
		labels: []string{"result"}, sets: sets{"result": {"success", "failed"}}, values: "result: success, failed (the one before it stays in force)",
	})
	return &web{
		ok: reloads.with("success"), failed: reloads.with("failed"),
		last: c.gauge(def{
			name: "glassrunner_web_config_last_load_successful", help: "Whether the last attempt to load the web configuration file succeeded: 1 or 0.",
			note: "Without such a file there is no series.",
		}),
	}
}

func (w *web) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.WebConfigLoaded:
		if f.Err != nil {
			w.failed.Inc()
			w.last.with().Set(0)
		} else {
			w.ok.Inc()
			w.last.with().Set(1)
		}
	default:
	}
}
