package job

import "time"

// AckResult is how a coordinator took an update of a job or of its log.
type AckResult int

// Results of updates. Whatever they are, Ack.Directive counts.
const (
	Accepted   AckResult = iota
	Incomplete           // taken, but log chunks are still being stored: repeat the same update
	Rewind               // the log does not continue where the chunk starts: go to Ack.Offset
	Mismatch             // the log's checksum differs: send all of it again
	Gone                 // the coordinator does not know the job (any more)
	Refused              // the job is not this runner's to update: forbidden, canceled or finished
	Trouble              // temporary: try again later
)

// Ack is a coordinator's answer to Append or Update.
type Ack struct {
	Result    AckResult
	Status    int           // HTTP status, -1: there was no usable answer
	Offset    int64         // of Rewind and of accepted chunks: bytes of the log that the coordinator has
	Interval  time.Duration // between chunks, as the coordinator wants it; 0: not said
	Directive Directive
	JobStatus string // the coordinator's name for the job's state, may be empty
}

// WireState is a state that a coordinator is told.
type WireState string

// The states that a coordinator is told.
const (
	WireRunning WireState = "running"
	WireSuccess WireState = "success"
	WireFailed  WireState = "failed"
)

// Update tells a coordinator how a job is.
type Update struct {
	State    WireState `json:"state"`
	Reason   Reason    `json:"reason"`    // only with WireFailed, already mapped by Reason.Known
	ExitCode int       `json:"exit_code"` // of the script; 0 is not sent
	Checksum string    `json:"checksum"`  // "crc32:%08x" of the whole log; "" before there is one
	Size     int64     `json:"size"`      // bytes of the log
}
