// Package custom runs jobs by programs of the runner's operator: config_exec
// says where a job lives, prepare_exec makes that place, run_exec runs each of
// the job's scripts, cleanup_exec removes the place. The order, arguments,
// environment and exit codes are those of GitLab Runner's custom executor.
//
// What a program starts and leaves running is the program's: a virtual machine
// that prepare_exec started has to be there for run_exec, and only
// cleanup_exec knows how to end it. The driver ends no more than the process
// group of the program that is running when a job is canceled, or when the
// runner crashed; after that cleanup_exec runs, in the crashed runner's stead
// too.
package custom
