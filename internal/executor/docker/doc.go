// Package docker is the executor that runs jobs in containers of a Docker
// engine. It implements executor.Driver.
//
// A job gets a place of its own: volumes for builds and caches, service
// containers, a container of the job's image for the user's steps and one of the
// helper image for everything else. Scripts go in by the standard input of a
// shell that is found in the image, and for the helper by that of a loop which
// starts one for each: see docs/adr/0022-a-docker-jobs-containers.md.
//
// Everything that a job makes carries labels: those that GitLab Runner sets,
// and the run it belongs to. Close removes what has the job's run; after a
// crash Reap does so by the label alone, and removes nothing else.
package docker
