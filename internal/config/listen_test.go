package config_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/config"
)

func TestListen(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{":9252", ":9252"},
		{":", ":9252"},
		{":0", ":0"},
		{":http", ":80"},
		{":http-alt", ":8080"},
		{"localhost", "localhost:9252"},
		{"localhost:", "localhost:9252"},
		{"localhost:81", "localhost:81"},
		{"runner-1.example.com:https", "runner-1.example.com:443"},
		{"example.org.", "example.org.:9252"},
		{"my_host", "my_host:9252"},
		{"bücher.example:80", "bücher.example:80"},
		{"127.0.0.1", "127.0.0.1:9252"},
		{"127.0.0.1:", "127.0.0.1:9252"},
		{"10.0.0.1:http", "10.0.0.1:80"},
		{"10.0.0.1:65535", "10.0.0.1:65535"},
		{"[::]", "[::]:9252"},
		{"[::1]", "[::1]:9252"},
		{"[::1]:", "[::1]:9252"},
		{"[2001:db8::1]:http", "[2001:db8::1]:80"},
		{"[fe80::1%eth0]:9252", "[fe80::1%eth0]:9252"},
		{"[localhost]:80", "localhost:80"},
		{"[]:80", ":80"},
		{"host:0080", "host:80"},
	} {
		got, err := config.Listen(c.in)
		if err != nil || got.String() != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	for _, c := range []struct{ in, reason, remedy string }{
		{"", "empty", "leave listen_address out"},
		{"9252", "without a colon", `did you mean ":9252"?`},
		{" :9252", "spaces", `write ":9252"`},
		{"::1", "needs brackets", `write "[::1]"`},
		{"2001:db8::1", "needs brackets", `write "[2001:db8::1]"`},
		{"::1:9252", "needs brackets", `write "[::1:9252]", or "[::1]:9252"`},
		{"fe80::1:http", "needs brackets", `write "[fe80::1]:http"`},
		{"a:b:c", "too many colons", ""},
		{"[::1", "closing bracket is missing", `write "[::1]"`},
		{"[::1:9252", "closing bracket is missing", `"[::1]:9252"`},
		{"[::1]9252", "a colon has to follow", `write "[::1]:9252"`},
		{"[::1]:1:2", "more than one port", ""},
		{"[a b]:1", "not allowed in a host name", ""},
		{"http://127.0.0.1:9252", "URL", `without the scheme http://: "127.0.0.1:9252"`},
		{"https://localhost/metrics", "URL", `"localhost"`},
		{"tcp://:9252", "URL", `":9252"`},
		{"unix:/run/metrics.sock", "TCP only", ""},
		{"/run/metrics.sock", "TCP only", ""},
		{"@abstract", "TCP only", ""},
		{"localhost:9252/metrics", "path", `write "localhost:9252"`},
		{"*:9252", "not a host name", `write ":9252"`},
		{"256.1.1.1:80", "not an IP address", ""},
		{"1.2.3:80", "not an IP address", ""},
		{"a..b:80", "empty part", ""},
		{"me@host:80", "user name", ""},
		{"host:abc-def", "no TCP service", `write the port as a number, such as "host:9252"`},
		{"[::1]:abc-def", "no TCP service", `such as "[::1]:9252"`},
		{"host:65536", "out of range", "0 to 65535"},
		{"host:-1", "out of range", ""},
		{"host:99999999999999999999", "out of range", ""},
		{"host:+80", "not a number or a service name", ""},
		{"host: 80", "not a number or a service name", ""},
		{"host\n:80", "not allowed", ""},
		{strings.Repeat("a", 300) + ":80", "longer than 253", ""},
	} {
		_, err := config.Listen(c.in)
		var bad *config.AddressError
		if !errors.As(err, &bad) {
			t.Errorf("%q: got %v, want an AddressError", c.in, err)
			continue
		}
		if !strings.Contains(bad.Reason, c.reason) || !strings.Contains(bad.Remedy, c.remedy) {
			t.Errorf("%q: got %q; %q, want %q; %q", c.in, bad.Reason, bad.Remedy, c.reason, c.remedy)
		}
		if len(c.in) < 50 && !strings.Contains(c.in, "\n") && !strings.Contains(err.Error(), bad.Address) {
			t.Errorf("%q: the error does not name the address: %v", c.in, err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error has several lines: %q", c.in, err)
		}
	}
}

func TestListenHidesPassword(t *testing.T) {
	for _, in := range []string{"http://user:secret@host:80", "user:secret@host:80", "user:secret@host"} {
		_, err := config.Listen(in)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func FuzzListen(f *testing.F) {
	for _, s := range []string{":9252", "localhost:", "[::1]:http", "::1:9252", "http://a@b/c", "9252", "[", "]:", "a:b:c", "[x]y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := config.Listen(s)
		if err != nil {
			var bad *config.AddressError
			if !errors.As(err, &bad) || bad.Reason == "" {
				t.Fatalf("%q: got %v, want an AddressError with a reason", s, err)
			}
			return
		}
		host, _, err := net.SplitHostPort(a.String())
		if err != nil || host != a.Host {
			t.Fatalf("%q: %q does not split: %q, %v", s, a, host, err)
		}
		if again, err := config.Listen(a.String()); err != nil || again != a {
			t.Fatalf("%q: %v parses as %v, %v", s, a, again, err)
		}
	})
}
