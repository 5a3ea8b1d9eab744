// Package kubernetes runs jobs in pods. A job has one pod: a container for the
// user's steps, a helper container for everything else, and its services.
//
// Nothing that a job needs depends on a connection. In each container the
// first process takes the scripts, one after the other, from a pipe in a volume
// that the pod's containers share; output and exit codes go to files there. One
// exec in the helper container brings a script, starts it and follows its
// files. When that connection breaks, the next one goes on from the byte that
// was passed on last: a script is started once, and its output is neither lost
// nor repeated, whatever the API server does meanwhile. See supervise.sh and
// follow.sh.
//
// The driver asks only for single objects by their name: it watches nothing and
// lists nothing but events, so that its role can be small.
package kubernetes
