// Package fakegitlab is a strict GitLab-compatible server over real HTTP: it stands for Workhorse
// and Rails together, as far as a CI runner can see them.
//
// It promises three things. It answers every endpoint that a runner calls with the statuses, headers
// and bodies of the public runner API. It checks what a correct runner always does (the numbered rules of
// [Rule]) and records each deviation as a [Violation], so a test fails on any. And it can misbehave on
// demand, repeatably, through [Fault]. It shares no type with any client, so that a mistake in a client's
// wire types cannot cancel itself out.
//
// The zero [Options] give a server that hands out whatever [Server.Enqueue] was given to the runners of
// [Server.AddRunner]. All methods of [Server] may be called from any goroutine.
package fakegitlab
