// Package shell runs jobs on the runner's own machine, with the shells that
// are installed there.
//
// A phase is one process: the login shell, which reads its script from a file
// that has no name, so that nothing of it is in a command line or on a disk.
// Files are prepared by the driver itself, below the job's directories only,
// and without following the symbolic links that a job may leave there.
//
// The processes of one job are one tree. On Linux they share a session per
// phase and, where the runner may write to a cgroup v2 hierarchy, a control
// group of their own, which nothing leaves by becoming a daemon. Where there
// is no such hierarchy, or jobs run as another user, the tree is found through
// sessions, parents and a random mark in the environment; what clears its
// environment, leaves its session and loses its parent escapes then. Close
// ends the tree, and Reap ends what a crashed runner left of it.
//
// On other Unix systems the tree is the process groups of the phases. On
// Windows only the shell itself is ended.
package shell
