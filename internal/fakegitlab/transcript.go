package fakegitlab

import (
	"net/http"
	"slices"
	"time"
)

// maxTranscriptBody bounds each body of an [Exchange].
const maxTranscriptBody = 64 << 10

// Exchange is one request with its answer, as kept by Options.Transcript. Bodies are cut at 64 KiB;
// RequestBody is empty for uploads and git.
type Exchange struct {
	Time         time.Time
	Duration     time.Duration
	Endpoint     Endpoint
	Job          int64
	Method       string
	Path         string
	Query        string
	Header       http.Header
	RequestBody  []byte
	Status       int // 0 when the connection was cut
	ReplyHeader  http.Header
	ResponseBody []byte
	Fault        string // name of the fault that was applied
}

func (s *Server) note(c *call, status int, body []byte, header http.Header) {
	e := Exchange{
		Time: c.start, Duration: s.now().Sub(c.start), Endpoint: c.endpoint, Job: c.job,
		Method: c.r.Method, Path: c.r.URL.Path, Query: c.r.URL.RawQuery, Header: c.r.Header.Clone(),
		RequestBody: slices.Clone(c.body[:min(len(c.body), maxTranscriptBody)]),
		Status:      status, ReplyHeader: header.Clone(),
		ResponseBody: slices.Clone(body[:min(len(body), maxTranscriptBody)]),
	}
	if c.fault != nil {
		e.Fault = c.fault.Name
	}
	s.tmu.Lock()
	defer s.tmu.Unlock()
	if len(s.transcript) < s.opts.Transcript {
		s.transcript = append(s.transcript, e)
		return
	}
	s.transcript[s.tnext] = e
	s.tnext = (s.tnext + 1) % len(s.transcript)
}

// Transcript returns the last requests in the order of their answers; only of the given endpoints, if any.
func (s *Server) Transcript(endpoints ...Endpoint) []Exchange {
	s.tmu.Lock()
	defer s.tmu.Unlock()
	var out []Exchange
	for i := range s.transcript {
		e := s.transcript[(s.tnext+i)%len(s.transcript)]
		if len(endpoints) == 0 || slices.Contains(endpoints, e.Endpoint) {
			out = append(out, e)
		}
	}
	return out
}
