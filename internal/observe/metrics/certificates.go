package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// certificates is when certificates end.
type certificates struct{ expiry gaugeVec }

func newCertificates(c *catalogue) certificates {
	return certificates{c.gauge(def{
		name: "glassrunner_certificate_expiry_timestamp_seconds", help: "When a certificate ends, the earliest one in use.",
		sets:   sets{"certificate": {"web_server", "web_client_ca", "coordinator_client", "coordinator_ca"}},
		labels: []string{"certificate"},
		values: "certificate: web_server and web_client_ca (of the monitoring server), coordinator_client (tls-cert-file), coordinator_ca (the certificate of tls-ca-file by which the last connection was verified)",
		note:   "A certificate that is not configured has no series, nor has one towards a coordinator before the first connection.",
	})}
}

func (m *certificates) observe(f event.CertificateLoaded) {
	if f.NotAfter.IsZero() {
		m.expiry.drop(prometheus.Labels{"certificate": f.Certificate})
		return
	}
	m.expiry.with(f.Certificate).Set(seconds(f.NotAfter))
}
