package event

// Block is why a runner takes no job at a moment. Exactly one holds for every
// runner at every moment.
type Block string

// The blocks in the order of their precedence: of those that apply, the first
// is told.
const (
	BlockShutdown    Block = "shutdown"            // no more jobs are taken, or the runner left the configuration
	BlockUnhealthy   Block = "unhealthy"           // it has no token, or was refused too often
	BlockDisk        Block = "disk"                // held: too little room for builds
	BlockPaused      Block = "paused"              // held by the operator
	BlockConcurrent  Block = "concurrent"          // no place among all jobs and requests
	BlockLimit       Block = "limit"               // no place below the runner's own limit
	BlockRequests    Block = "request_concurrency" // other requests of its token take all request slots
	BlockExecutor    Block = "executor_capacity"   // the executor had no place when it was asked last
	BlockCoordinator Block = "coordinator"         // the last request failed
	BlockNoJobs      Block = "no_jobs"             // it asks, or waits for its turn, and there was nothing to do
)

// Blocks lists every block, in the order of precedence.
func Blocks() []Block {
	return []Block{
		BlockShutdown, BlockUnhealthy, BlockDisk, BlockPaused, BlockConcurrent, BlockLimit, BlockRequests,
		BlockExecutor, BlockCoordinator, BlockNoJobs,
	}
}

// Ready reports whether a runner with this block takes jobs as far as it has
// room: nothing is wrong with it.
func (b Block) Ready() bool {
	switch b {
	case BlockConcurrent, BlockLimit, BlockRequests, BlockExecutor, BlockNoJobs:
		return true
	default:
		return false
	}
}

// BlockChanged: why the runner of the scope takes no job is another reason
// than before, or is told for the first time. Entries with the same labels
// are one runner: the block that comes last in Blocks is told.
type BlockChanged struct{ Block Block }

// PlacesChanged: of the places that `concurrent` allows, so many run a job,
// are reserved by a request in flight, and are free. After a reload that
// lowered concurrent the sum may be more than it.
type PlacesChanged struct{ Running, Requesting, Idle int }

func (BlockChanged) fact()  {}
func (PlacesChanged) fact() {}
