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

// heading is the text that people know from GitLab's job page.
func heading(p job.Phase) string {
	switch p {
	case job.PrepareScript:
		return "Preparing environment"
	case job.GetSources:
		return "Getting source from Git repository"
	case job.ClearWorktree:
		return "Deleting all tracked and untracked files due to source fetch failure"
	case job.RestoreCache:
		return "Restoring cache"
	case job.DownloadArtifacts:
		return "Downloading artifacts"
	case job.AfterScript:
		return "Running after_script"
	case job.ArchiveCache:
		return "Saving cache for successful job"
	case job.ArchiveCacheFailed:
		return "Saving cache for failed job"
	case job.UploadArtifacts:
		return "Uploading artifacts for successful job"
	case job.UploadArtifactsF:
		return "Uploading artifacts for failed job"
	case job.Cleanup:
		return "Cleaning up project directory and file based variables"
	default:
		return fmt.Sprintf("Executing %q stage of the job script", p)
	}
}
