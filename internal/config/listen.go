package config

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// DefaultListenPort is the port of the metrics server when the address has
// none.
const DefaultListenPort = 9252

// Address is where the metrics server listens, over TCP.
type Address struct {
	Host string // a name, an IPv4 or IPv6 address without brackets, or empty for all interfaces
	Port int    // 0 lets the system choose
}

// String returns the address in the form that net.Listen takes.
func (a Address) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// AddressError says what is wrong with a listen address and what to write
// instead.
type AddressError struct {
	Address string // as given, without credentials
	Reason  string
	Remedy  string // may be empty
}

// Error returns one line with the address, the reason and the remedy.
func (e *AddressError) Error() string {
	text := fmt.Sprintf("listen address %q: %s", e.Address, e.Reason)
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Listen parses the value of listen_address: [host]:port, where host is an IP
// address, a host name or an IPv6 address in brackets, and port is a number or
// a service name that the system knows. Without a port, or with an empty one,
// it is 9252. The host is not resolved. The error is an [*AddressError].
func Listen(addr string) (Address, error) {
	return parseListen(addr, func(service string) (int, error) {
		return net.DefaultResolver.LookupPort(context.Background(), "tcp", service)
	})
}

func parseListen(addr string, lookup func(string) (int, error)) (Address, error) {
	host, port, err := splitListen(addr)
	if err != nil {
		return Address{}, err
	}
	if err := checkHost(addr, host); err != nil {
		return Address{}, err
	}
	n, err := listenPort(addr, host, port, lookup)
	if err != nil {
		return Address{}, err
	}
	return Address{Host: host, Port: n}, nil
}

// splitListen separates host and port and rejects everything that has another
// form.
func splitListen(addr string) (host, port string, err error) {
	bad := func(reason, remedy string) (string, string, error) {
		return "", "", addressError(addr, reason, remedy)
	}
	switch {
	case addr == "":
		return bad("it is empty", "leave listen_address out to run without the metrics server")
	case strings.TrimSpace(addr) != addr:
		return bad("it has spaces around it", fmt.Sprintf("write %q", shown(strings.TrimSpace(addr))))
	case strings.HasPrefix(strings.ToLower(addr), "unix:"), strings.HasPrefix(addr, "/"), strings.HasPrefix(addr, "@"):
		return bad("the metrics server listens on TCP only", `write "host:port"`)
	}
	if scheme, rest, ok := strings.Cut(addr, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		return bad("it is a URL", fmt.Sprintf("write it without the scheme %s://: %q", shown(scheme), shown(rest)))
	}
	if before, _, ok := strings.Cut(addr, "/"); ok {
		return bad("it has a path", fmt.Sprintf("write %q", shown(before)))
	}
	if rest, ok := strings.CutPrefix(addr, "["); ok {
		host, after, closed := strings.Cut(rest, "]")
		switch {
		case !closed:
			return bad("the closing bracket is missing", bracketRemedy(rest))
		case after == "":
			return host, "", nil
		case after[0] != ':':
			return bad("a colon has to follow the bracket", fmt.Sprintf("write %q", shown("["+host+"]:"+after)))
		case strings.Contains(after[1:], ":"):
			return bad("it has more than one port", "")
		default:
			return host, after[1:], nil
		}
	}
	switch strings.Count(addr, ":") {
	case 0:
		return addr, "", nil
	case 1:
		host, port, _ = strings.Cut(addr, ":")
		return host, port, nil
	default:
		return bad("it has too many colons; an IPv6 address needs brackets", bracketRemedy(addr))
	}
}

// bracketRemedy says how to write what may be an IPv6 address without
// brackets.
func bracketRemedy(addr string) string {
	whole := ""
	if ip, err := netip.ParseAddr(addr); err == nil && ip.Is6() {
		whole = "[" + addr + "]"
	}
	withPort := ""
	if i := strings.LastIndexByte(addr, ':'); i > 0 {
		host := strings.TrimSuffix(addr[:i], "]")
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && addr[i+1:] != "" {
			withPort = "[" + host + "]:" + addr[i+1:]
		}
	}
	switch {
	case whole != "" && withPort != "":
		return fmt.Sprintf("write %q, or %q if the end is the port", whole, withPort)
	case whole != "" || withPort != "":
		return fmt.Sprintf("write %q", whole+withPort)
	default:
		return ""
	}
}

func checkHost(addr, host string) error {
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "*" {
		return addressError(addr, "* is not a host name", fmt.Sprintf("write %q for all interfaces", strings.TrimPrefix(addr, "*")))
	}
	if len(host) > 253 {
		return addressError(addr, "the host name is longer than 253 characters", "")
	}
	if isDigits(host) {
		return addressError(addr, "it is a number without a colon", fmt.Sprintf("did you mean %q?", ":"+host))
	}
	for _, c := range host {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c >= 0x80:
		case c == '@':
			return addressError(addr, "it has a user name in it", "write only host and port")
		default:
			return addressError(addr, fmt.Sprintf("%q is not allowed in a host name", c), "")
		}
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	if slices.Contains(labels, "") {
		return addressError(addr, "the host name has an empty part", "")
	}
	if isDigits(labels[len(labels)-1]) {
		return addressError(addr, fmt.Sprintf("%s is not an IP address", shown(host)), "an IPv4 address has four numbers from 0 to 255")
	}
	return nil
}

func listenPort(addr, host, port string, lookup func(string) (int, error)) (int, error) {
	if port == "" {
		return DefaultListenPort, nil
	}
	if isDigits(strings.TrimPrefix(port, "-")) {
		n, err := strconv.Atoi(port)
		if err != nil || n < 0 || n > 65535 {
			return 0, addressError(addr, "the port is out of range", "ports are numbers from 0 to 65535")
		}
		return n, nil
	}
	for i, c := range port {
		if c > 0x7f || c <= ' ' || i == 0 && (c == '+' || c == '-') {
			return 0, addressError(addr, "the port is not a number or a service name", "")
		}
	}
	n, err := lookup(port)
	if err == nil && n > 0 && n <= 65535 {
		return n, nil
	}
	// Images without /etc/services know only a few names.
	if strings.EqualFold(port, "http-alt") {
		return 8080, nil
	}
	return 0, addressError(addr, fmt.Sprintf("this system knows no TCP service %q", shown(port)),
		fmt.Sprintf("write the port as a number, such as %q", Address{Host: host, Port: DefaultListenPort}))
}

func addressError(addr, reason, remedy string) error {
	return &AddressError{Address: shown(addr), Reason: reason, Remedy: remedy}
}

// shown returns a piece of an address for a message: without credentials and
// not longer than a line.
func shown(s string) string {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		start := 0
		if j := strings.Index(s[:i], "://"); j >= 0 {
			start = j + 3
		}
		s = s[:start] + "[MASKED]" + s[i:]
	}
	const longest = 100
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
