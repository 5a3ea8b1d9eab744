// Package scheduler decides which runner entry asks its coordinator for a
// job, and when. It knows neither HTTP nor executors: an Entry brings a
// function that makes one request, and a request brings a Task that runs the
// job.
//
// # Bounds
//
// At every moment, and over reloads too:
//
//   - jobs plus requests in flight are at most Config.Concurrent in all, and
//     at most Entry.Limit per key (token);
//   - requests in flight are at most RequestConcurrency per key, fewer while
//     the adaptive limit says so.
//
// A request is thus a reservation: whatever it brings runs at once, in the
// place that the request held. A reload that lowers a bound stops nothing
// that runs; nothing new starts until the bound holds again.
//
// # Pace
//
// Each entry gets a turn once per check_interval, the turns of different
// entries are check_interval divided by their number apart, and an entry's
// requests start at least check_interval apart. A received job is worth one
// further request that need not wait for a turn (a credit). It is spent when
// there is room, at once or when a job ends, so a full queue is drained as
// quickly as jobs run. An answer without a job takes the entry's credits
// away: it is cold until its next turn, and ends of jobs do not hammer an
// idle queue. strict_check_interval gives no credits.
//
// So no answer makes a hot loop: requests are never more than turns plus
// received jobs. Jobs that cannot be run must not make one either: after a
// few refusals in a row, or a few jobs in a row that failed by the runner's
// own fault, jobs earn no credit; a broken machine eats a queue at the pace
// of check_interval only.
//
// # Fairness
//
// When room is scarce, the entry that was asked longest ago goes first, with
// a turn or with a credit alike. While an entry could ask but for room, any
// other entry starts at most one request before it does.
//
// # Long polls
//
// A coordinator may hold a request for 50 s, and with it its place. The
// places cannot be overbooked, since every request may bring a job. Calling a
// held request back would lose a job that is on its way. So a request that
// others would have to wait for is made with Ask.Brief, which lets the
// coordinator answer at once; it is held only while every entry that could
// also ask has a place left and one more is free. With concurrent = 1 and two
// entries both are asked at the pace of check_interval; one entry alone, or
// with concurrent above the number of entries, has all the good of long
// polling. Requests that were held before room became scarce keep their place
// until they are answered.
//
// # Why a runner takes no job
//
// At every moment one event.Block holds for a runner, and each change is told
// (BlockChanged), so that the time spent in all of them adds up to the time
// that passed. Where several apply the first of this order is told:
//
//	shutdown             draining; or a reload took the runner away
//	unhealthy            no token, or refused too often (until the forced check)
//	disk, paused         held, see Scheduler.Hold
//	                     -- a request in flight: no_jobs, or coordinator if
//	                        the request before it failed or this one is not
//	                        answered for two minutes
//	concurrent           jobs and requests take all places
//	limit                those of its token take all that its limit allows
//	request_concurrency  requests of its token in another entry
//	executor_capacity    the executor had no place when it was asked last
//	coordinator          the last request failed
//	no_jobs              it waits for its turn
//
// So a runner that runs jobs and may take more is in no_jobs: there is nothing
// for it. Being refused a turn is not a block, waiting for an answer is none.
// Entries with the same labels are one runner, which is as little blocked as
// the least blocked of them.
//
// # Ownership
//
// One goroutine, Run's, owns all state; everything else posts messages to it.
// Each request and the job that it brings live in one more goroutine, which
// Run waits for. Between messages there is one timer, which also makes the loop
// report to the pulse monitor.
package scheduler
