package fakegitlab

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"
)

// pageJobs is how many of the last jobs the page shows.
const pageJobs = 50

// handlePage is the text page at "/". It shows no token.
func (s *Server) handlePage(c *call) {
	s.mu.Lock()
	var runners []Runner
	for _, id := range slices.Sorted(maps.Keys(s.runners)) {
		runners = append(runners, s.runners[id].view())
	}
	ids := slices.Sorted(maps.Keys(s.jobs))
	total := len(ids)
	var jobs []Snapshot
	for _, id := range ids[max(0, total-pageJobs):] {
		jobs = append(jobs, s.jobs[id].snapshot())
	}
	pending := len(s.pending)
	finished := maps.Clone(s.stats.Finished)
	s.mu.Unlock()
	s.vmu.Lock()
	violations := len(s.violations)
	s.vmu.Unlock()

	var out bytes.Buffer
	fmt.Fprintf(&out, "fake GitLab %s: a stand-in for tests and demonstrations\n\n", Version)
	fmt.Fprintf(&out, "pending %d, success %d, failed %d, canceled %d, violations %d\n\n",
		pending, finished[Success], finished[Failed], finished[Canceled], violations)
	t := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "RUNNER\tDESCRIPTION\tTAGS\tPAUSED\tMANAGERS\tRUNNING")
	for _, r := range runners {
		fmt.Fprintf(t, "%d\t%s\t%s\t%t\t%d\t%d\n", r.ID, r.Description, rubyList(r.Tags), r.Paused, len(r.Managers), r.Running)
	}
	_ = t.Flush() // a bytes.Buffer never fails
	fmt.Fprintln(&out)
	fmt.Fprintln(t, "JOB\tNAME\tSTAGE\tSTATUS\tREASON\tLOG BYTES")
	for _, j := range jobs {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\n", j.ID, j.Name, j.Stage, j.Status, j.FailureReason, j.TraceSize)
	}
	_ = t.Flush()
	c.raw(http.StatusOK, "text/plain; charset=utf-8", out.Bytes())
}
