package event

import "time"

// CertificateLoaded: a certificate was read. Certificate is "web_server",
// "web_client_ca", "coordinator_client" or "coordinator_ca"; NotAfter is the
// earliest end of those in use, zero when there is none any more.
type CertificateLoaded struct {
	Certificate string
	NotAfter    time.Time
}

func (CertificateLoaded) fact() {}
