package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/api"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// maxTail is the most that is shown of the end of a log.
const maxTail = 16 << 10

func (s *Server) apiRoutes(mux *http.ServeMux) {
	for path, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"/api/v1/status":         s.apiStatus,
		"/api/v1/runners":        s.apiRunners,
		"/api/v1/jobs":           s.apiJobs,
		"/api/v1/jobs/{run}":     s.apiJob,
		"/api/v1/jobs/{run}/log": s.apiLog,
		"/api/v1/finished":       s.apiFinished,
		"/api/v1/history":        s.apiHistory,
		"/api/v1/events":         s.streams.serve,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if reads(w, r) {
				w.Header().Set("Cache-Control", "no-store")
				answer(w, r)
			}
		})
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, http.StatusNotFound, api.Error{Error: "no such resource: see docs/api.md"})
	})
}

func answerJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	write(w, code, string(b)+"\n")
}

func (s *Server) apiStatus(w http.ResponseWriter, _ *http.Request) {
	snap := s.o.Board.Present()
	answerJSON(w, http.StatusOK, presenter{s}.status(&snap))
}

func (s *Server) apiRunners(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, presenter{s}.runners(s.o.Board.Present().Runners))
}

func (s *Server) apiJobs(w http.ResponseWriter, _ *http.Request) {
	snap := s.o.Board.Present()
	answerJSON(w, http.StatusOK, presenter{s}.snapshot(&snap).Jobs)
}

func (s *Server) apiFinished(w http.ResponseWriter, r *http.Request) {
	snap := s.o.Board.Snapshot()
	all := presenter{s}.snapshot(&snap).Finished
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			answerJSON(w, http.StatusBadRequest, api.Error{Error: "limit is a whole number, not below 0"})
			return
		}
		all = all[max(0, len(all)-n):]
	}
	answerJSON(w, http.StatusOK, all)
}

// findJob returns the job of a run, as it is now or as it ended; nil, nil when
// there is none or it has been answered that it was asked for wrongly.
func (s *Server) findJob(w http.ResponseWriter, r *http.Request) (*board.Job, *board.Finished) {
	run, err := strconv.ParseUint(r.PathValue("run"), 10, 64)
	if err != nil {
		answerJSON(w, http.StatusBadRequest, api.Error{Error: "run is the number that a job has in /api/v1/jobs"})
		return nil, nil
	}
	snap := s.o.Board.Snapshot()
	for i := range snap.Jobs {
		if snap.Jobs[i].Run == run {
			return &snap.Jobs[i], nil
		}
	}
	for _, f := range snap.Finished {
		if f.Run == run {
			return nil, f
		}
	}
	answerJSON(w, http.StatusNotFound, api.Error{Error: "no such job runs, and none of the last that ended was it"})
	return nil, nil
}

func (s *Server) apiJob(w http.ResponseWriter, r *http.Request) {
	running, ended := s.findJob(w, r)
	p := presenter{s}
	var d api.Detail
	switch {
	case running != nil:
		j := p.job(running)
		d.Running, d.Timeline = &j, p.timeline(running.Timeline)
	case ended != nil:
		f := p.finished(ended)
		d.Finished = &f
	default:
		return
	}
	answerJSON(w, http.StatusOK, d)
}

// apiLog answers with the end of a running job's masked log.
func (s *Server) apiLog(w http.ResponseWriter, r *http.Request) {
	if !s.tails() {
		answerJSON(w, http.StatusForbidden, api.Error{Error: "logs are not shown here: that needs log_tail in [monitoring] and a web configuration that asks for passwords or client certificates"})
		return
	}
	running, ended := s.findJob(w, r)
	if ended != nil {
		answerJSON(w, http.StatusNotFound, api.Error{Error: "the job has ended: its log is on the coordinator"})
	}
	if running == nil {
		return
	}
	text, err := s.o.Tail(running.Runner, running.ID, maxTail)
	if err != nil {
		s.o.Log.Debug("Monitoring server: the end of a log", "error", err)
		answerJSON(w, http.StatusNotFound, api.Error{Error: "the log of this job cannot be read"})
		return
	}
	plain(w, http.StatusOK, strings.ToValidUTF8(string(text), "\uFFFD"))
}

func (s *Server) apiHistory(w http.ResponseWriter, r *http.Request) {
	span := time.Hour
	if text := r.URL.Query().Get("range"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Minute || d > 24*time.Hour {
			answerJSON(w, http.StatusBadRequest, api.Error{Error: fmt.Sprintf("range is a duration from 1m to 24h, not %q", text)})
			return
		}
		span = d
	}
	if s.o.History == nil {
		answerJSON(w, http.StatusOK, api.History{})
		return
	}
	answerJSON(w, http.StatusOK, presenter{s}.history(s.o.History.Since(time.Now(), span)))
}
