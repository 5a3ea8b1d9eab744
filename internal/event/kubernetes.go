package event

import "time"

// PodStage is a stretch of the life of a job's pod.
type PodStage string

// The stages of a pod, in their order.
const (
	PodCreated   PodStage = "created"   // the API server accepted it
	PodScheduled PodStage = "scheduled" // a node was found, from its creation on
	PodReady     PodStage = "ready"     // all containers of the job run, from its creation on
)

// PodReached: a job's pod reached a stage.
type PodReached struct {
	Stage PodStage
	Took  time.Duration
}

// PodReason is why a pod could not be had or was lost: a closed set.
type PodReason string

// The reasons.
const (
	PodRefused       PodReason = "refused" // by the API server: permissions, quota, admission
	PodImagePull     PodReason = "image_pull"
	PodInvalidImage  PodReason = "invalid_image"
	PodConfigError   PodReason = "config_error" // the kubelet cannot make a container of it
	PodCrashed       PodReason = "crashed"      // a container ended by itself
	PodOOMKilled     PodReason = "oom_killed"
	PodUnschedulable PodReason = "unschedulable" // no node until the time was up
	PodTimeout       PodReason = "timeout"       // not ready until the time was up, for another reason
	PodEvicted       PodReason = "evicted"       // and other disruptions by the cluster
	PodDeleted       PodReason = "deleted"       // by somebody else
	PodDeadline      PodReason = "deadline"
	PodOther         PodReason = "other"
)

// PodReasons lists every reason.
func PodReasons() []PodReason {
	return []PodReason{
		PodRefused, PodImagePull, PodInvalidImage, PodConfigError, PodCrashed, PodOOMKilled, PodUnschedulable,
		PodTimeout, PodEvicted, PodDeleted, PodDeadline, PodOther,
	}
}

// PodFailed: a job's pod could not be had or was lost.
type PodFailed struct{ Reason PodReason }

// KubernetesCalled: one request to a Kubernetes API server ended. Verb is
// "create", "get", "list", "delete", "patch" or "exec"; Class is "" when it was answered
// with what was asked for (or with not found), "http_4xx", "http_5xx" or "network".
type KubernetesCalled struct {
	Verb  string
	Class string
	Took  time.Duration // until the answer began
}

// LogResumed: the connection that carried a job's output from its pod broke
// and was made again, from the byte where it had broken.
type LogResumed struct{}

func (PodReached) fact()       {}
func (PodFailed) fact()        {}
func (KubernetesCalled) fact() {}
func (LogResumed) fact()       {}
