package coordinator

import (
	"net/http"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// Seams of tests: time and sockets cannot be faked together.

func (c *Client) SetRoundTripper(rt http.RoundTripper) { c.http.Transport = rt }

func (c *Client) SetLookEvery(d time.Duration) { c.link.every = d }

func (c *Client) LastUpdate() string { return c.poll.Load().lastUpdate }

func ClassOf(err error) event.ErrorClass { return classOf(err) }

var (
	DecodeJob = decodeJob
	Salvage   = salvage
	RetryWait = retryWait
	Template  = template
	Stored    = stored
	Interval  = interval
	ErrorText = errorText
)
