package autoscale

import "io"

// ReadSome is ReadTrace with another bound on the number of jobs.
func ReadSome(r io.Reader, most int) ([]Job, error) { return readTrace(r, most) }
