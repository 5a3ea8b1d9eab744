// Package e2e_test runs the whole program: the real binary, as a process of
// its own, against a strict GitLab-compatible server over real HTTP. Nothing
// leaves the loopback interface. Every test ends with the same questions: did
// the runner break a rule of the API, did it crash, is a process of a job
// still alive.
//
// They look into /proc, so they are for Linux.
//
// GLASSRUNNER_E2E_BINARY names a binary to test instead of one that is built
// from this checkout. GLASSRUNNER_SOAK makes TestSoak long.
package e2e_test
