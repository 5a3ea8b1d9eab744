package build

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Terminal sequences of GitLab's job log.
const (
	clearLine  = "\x1b[0K"
	reset      = "\x1b[0;m"
	boldRed    = "\x1b[31;1m"
	boldGreen  = "\x1b[32;1m"
	boldYellow = "\x1b[33;1m"
	boldCyan   = "\x1b[36;1m"
	yellow     = "\x1b[0;33m"
)

// printer writes the runner's own lines into a job's log. Each call is one
// write, so lines of different sources never mix.
type printer struct {
	w        io.Writer
	sections bool
	now      func() time.Time
}

func (p *printer) put(s string) { _, _ = io.WriteString(p.w, s) } // the log keeps its own error

// Line prints plain text.
func (p *printer) Line(format string, args ...any) {
	p.put(clearLine + fmt.Sprintf(format, args...) + reset + "\n")
}

// Good prints what ended well.
func (p *printer) Good(text string) { p.put(boldGreen + text + reset + "\n") }

// Warn prints a warning, each line of it as one.
func (p *printer) Warn(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		p.put(yellow + "WARNING: " + line + reset + "\n")
	}
}

// Error prints why a job failed.
func (p *printer) Error(text string) { p.put(boldRed + "ERROR: " + text + reset + "\n") }

// Head prints the heading of a section.
func (p *printer) Head(text string) { p.put(clearLine + boldCyan + text + reset + reset + "\n") }

// Begin and End put the invisible markers around a section.
func (p *printer) Begin(phase job.Phase) { p.mark("section_start", phase) }

func (p *printer) End(phase job.Phase) { p.mark("section_end", phase) }

func (p *printer) mark(kind string, phase job.Phase) {
	if p.sections {
		p.put(fmt.Sprintf("%s:%d:%s\r%s", kind, p.now().Unix(), phase, clearLine))
	}
}

// headings are the texts that people know from GitLab's job page.
var headings = map[job.Phase]string{
	job.ResolveSecrets:     "Resolving secrets",
	job.PrepareScript:      "Preparing environment",
	job.GetSources:         "Getting source from Git repository",
	job.ClearWorktree:      "Deleting all tracked and untracked files due to source fetch failure",
	job.RestoreCache:       "Restoring cache",
	job.DownloadArtifacts:  "Downloading artifacts",
	job.AfterScript:        "Running after_script",
	job.ArchiveCache:       "Saving cache for successful job",
	job.ArchiveCacheFailed: "Saving cache for failed job",
	job.UploadArtifacts:    "Uploading artifacts for successful job",
	job.UploadArtifactsF:   "Uploading artifacts for failed job",
	job.Cleanup:            "Cleaning up project directory and file based variables",
}

func heading(p job.Phase) string {
	if h, ok := headings[p]; ok {
		return h
	}
	return fmt.Sprintf("Executing %q stage of the job script", p)
}
