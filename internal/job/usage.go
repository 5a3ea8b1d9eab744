package job

import "time"

// Quantity is a number that may not be known. The zero value is not known,
// which is not the same as 0.
type Quantity struct {
	n     int64
	known bool
}

// Known returns a quantity of n. What cannot be negative is not.
func Known(n int64) Quantity { return Quantity{max(n, 0), true} }

// KnownTime returns a quantity of nanoseconds.
func KnownTime(d time.Duration) Quantity { return Known(int64(d)) }

// Value returns the number, and whether it is known.
func (q Quantity) Value() (int64, bool) { return q.n, q.known }

// Seconds returns the number of nanoseconds as seconds, and whether it is known.
func (q Quantity) Seconds() (float64, bool) { return time.Duration(q.n).Seconds(), q.known }

// Equal reports whether both are the same, unknown ones among themselves.
func (q Quantity) Equal(o Quantity) bool { return q == o }

// Plus returns the sum of what is known of both.
func (q Quantity) Plus(o Quantity) Quantity {
	return Quantity{q.n + o.n, q.known || o.known}
}

// Max returns the greater one of what is known of both.
func (q Quantity) Max(o Quantity) Quantity {
	return Quantity{max(q.n, o.n), q.known || o.known}
}

// Usage is what the processes of a job have used of their machine since the
// job's place was opened, services included. What the executor cannot find out
// is not known.
type Usage struct {
	CPU        Quantity // processor time, user and system, in nanoseconds
	Throttled  Quantity // time that a processor limit kept them waiting, in nanoseconds
	Memory     Quantity // bytes now
	MemoryPeak Quantity // most bytes at any time so far
	Read       Quantity // bytes that came from block devices
	Written    Quantity // bytes that were to go to block devices
	// OOMKills are processes of the job that the kernel killed because memory
	// ran out, ServiceOOMKills are those of its services.
	OOMKills, ServiceOOMKills Quantity
	// OOMKilled names what was hit, as the job log should name it:
	// "build container", "service postgres:17".
	OOMKilled []string
}

// Known reports whether anything is known.
func (u Usage) Known() bool {
	return u.CPU.known || u.Throttled.known || u.Memory.known || u.MemoryPeak.known || u.Read.known || u.Written.known ||
		u.OOMKills.known || u.ServiceOOMKills.known
}
