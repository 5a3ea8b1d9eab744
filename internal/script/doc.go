// Package script turns a job and a phase into what has to be done: file
// operations and shell text. It is pure: the same job gives the same bytes,
// and nothing is read, written or started.
//
// What can be done without a process is no shell text: files are written and
// removed by Ops, lines that need no shell are Notices. A phase whose Text is
// empty starts nothing, so that a job without sources costs one shell.
//
// Every word that comes from a job (branch names, variables, cache keys,
// file names) is hostile until it is quoted, and what would be read as an
// option or as a variable's name is refused or skipped. No credential enters
// a command line or a repository's own configuration: git learns them from a
// file of mode 0600 in the job's temporary directory.
//
// The shells are bash, sh (dash, BusyBox) and PowerShell. The text for the
// first two is tested by running it; the text for PowerShell is tested by
// golden files and unit tests only.
package script
