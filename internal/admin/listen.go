package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, "tcp", addr)
}

// overlap reports whether two addresses can be in each other's way although
// they differ: they have one port, and it is not "any".
func overlap(a, b string) bool {
	_, pa, errA := net.SplitHostPort(a)
	_, pb, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && pa == pb && pa != "0"
}

// ListenError says why an address cannot be listened on and what helps.
type ListenError struct {
	Address string
	Remedy  string
	Err     error
}

// Error names the address, the cause and the remedy.
func (e *ListenError) Error() string {
	return fmt.Sprintf("monitoring server cannot listen on %s: %s", e.Address, e.Remedy)
}

// Unwrap returns the system's error.
func (e *ListenError) Unwrap() error { return e.Err }

// explain makes a ListenError of what net says.
func explain(addr string, err error) error {
	host, port, splitErr := net.SplitHostPort(addr)
	var dns *net.DNSError
	var parse *net.AddrError
	var remedy string
	switch {
	case splitErr != nil || errors.As(err, &parse):
		remedy = fmt.Sprintf("%v: listen_address is [host]:port", cause(err))
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = fmt.Sprintf("port %s is in use, perhaps by another runner: stop that or choose another listen_address", port)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		remedy = fmt.Sprintf("no permission for port %s: ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one, such as 9252", port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = fmt.Sprintf("%s is no address of this machine: use one that is, or :%s for all", host, port)
	case errors.As(err, &dns) && dns.Name != host:
		remedy = fmt.Sprintf("unknown port %q: use a number or a service name such as http", port)
	case errors.As(err, &dns):
		remedy = fmt.Sprintf("the host name %q cannot be resolved (%s): use an IP address, or :%s for all", host, dns.Err, port)
	case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EPROTONOSUPPORT):
		remedy = fmt.Sprintf("this machine has no such network (%v): use an IPv4 address, such as 0.0.0.0:%s", cause(err), port)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		remedy = "too many open files: raise the limit (LimitNOFILE= in systemd)"
	default:
		remedy = fmt.Sprintf("%v: check listen_address", cause(err))
	}
	return &ListenError{Address: addr, Remedy: remedy, Err: err}
}

// cause returns the innermost words of a network error without the address,
// which the message has already.
func cause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "listen tcp: ")
}
