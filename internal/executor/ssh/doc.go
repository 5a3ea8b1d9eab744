// Package ssh runs jobs on machines that are entered over SSH.
//
// A job has one connection, and each of its phases one session in it: a login
// shell that reads its script from the standard input, so that nothing of it is
// in a command line or on a disk. A connection that is lost is made again for
// the next phase.
//
// All processes of a job have a random mark in their environment. By it a
// second session finds them, in /proc, when the job is canceled or over, and
// when a crashed runner left them. A process that belongs to another user, or
// that cleared its environment, escapes; so does every daemon on a machine
// without Linux's /proc, where only the shell of the phase is ended.
package ssh
