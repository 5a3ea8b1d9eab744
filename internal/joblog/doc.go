// Package joblog keeps a job's log and brings it to the coordinator.
//
// A Log is an append-only file. What a Stream is given passes masking, the
// replacement of invalid UTF-8 and, when wanted, timestamps; then it is
// written. Size, Checksum and the Uploader know only what has been written, so
// a coordinator never has more than the file. Nothing is synced: the log
// survives the end of the process, not that of the machine.
//
// A write goes straight to the file until 32 of them came with less than a
// millisecond between them: from there on a flood of small writes is put
// together and written after 10 ms or 32 KiB. (To write a few lines costs less
// than to wake up later for them.) This and what a Stream has to hold back (the begin of what
// may be a secret, of a character, and with timestamps a line that has not
// ended, for a second and at most 8 KiB) is what a kill -9 of the process can lose.
//
// An Uploader sends a Log while the job runs, hears what the coordinator wants
// (Run), and delivers the job's final state (Finish). It keeps nothing in
// memory but the chunk that is being sent.
package joblog
