package event

import "fmt"

// WebConfigLoaded: the web configuration file of the monitoring server is in
// force, or, with Err, was refused; then the one before it stays. A process
// without such a file emits nothing.
type WebConfigLoaded struct {
	Path string
	TLS  bool // connections are encrypted
	Auth bool // a password or a verified client certificate is asked for
	Err  error
}

// ListenerExposed: the monitoring server listens where other machines can
// reach it and asks nobody who they are, or asks for passwords that are sent
// in the clear.
type ListenerExposed struct {
	Addresses []string
	Shown     []string // what there is to see, such as "metrics"
	Passwords bool     // are asked for, without TLS
}

// String tells two such facts apart.
func (f ListenerExposed) String() string {
	return fmt.Sprint(f.Addresses, f.Shown, f.Passwords)
}

func (WebConfigLoaded) fact() {}
func (ListenerExposed) fact() {}
