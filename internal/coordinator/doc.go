// Package coordinator is the client of GitLab's runner API. It asks for jobs,
// reports how they are, sends their logs, moves their artifacts, and registers
// and removes runners. Its promises:
//
//   - One method is one logical call: the retries that the API asks for happen
//     inside, the request id stays the same, and exactly one event.Called tells
//     what came of it. Waits obey the context and are never longer than MaxWait.
//   - Whatever a server, a proxy or the network does, a method returns within
//     its bound, with bounded memory, and with one error that names the
//     request, the answer and, where there is one, the remedy. No error holds a
//     token or the user information of a URL.
//   - A job that was handed out is never dropped in silence: when its
//     description cannot be used but its number and token can, RequestJob
//     returns a *BadJobError, so that the job can be failed at once.
//   - What callers hand over (log chunks) is not touched after a method returns.
//
// The wire's structures stay inside. The package is one client and larger than
// most because the API's rules for payloads, redirects and TLS live here only.
package coordinator
