package traces

// schemaURL is the version of the semantic conventions that the keys are of.
const schemaURL = "https://opentelemetry.io/schemas/1.43.0"

// Keys of the semantic conventions. They are written out because the SDK's own
// are variables, which every start of the process would pay for; a test holds
// them to those.
const (
	keyTaskName     = "cicd.pipeline.task.name"
	keyTaskID       = "cicd.pipeline.task.run.id"
	keyTaskURL      = "cicd.pipeline.task.run.url.full"
	keyTaskResult   = "cicd.pipeline.task.run.result"
	keyPipelineName = "cicd.pipeline.name"
	keyPipelineID   = "cicd.pipeline.run.id"
	keyWorkerID     = "cicd.worker.id"
	keyWorkerName   = "cicd.worker.name"
	keyWorkerState  = "cicd.worker.state"
	keyComponent    = "cicd.system.component"
	keyRepository   = "vcs.repository.url.full"
	keyErrorType    = "error.type"
	keyMethod       = "http.request.method"
	keyStatusCode   = "http.response.status_code"
	keyResend       = "http.request.resend_count"
	keyURLTemplate  = "url.template"
)

// Keys of what only GitLab and this program have.
const (
	keyExecutor    = "gitlab.runner.executor"
	keyStage       = "gitlab.job.stage"
	keyProjectID   = "gitlab.project.id"
	keyProjectPath = "gitlab.project.path"
	keyNamespaceID = "gitlab.namespace.id"
	keyQueued      = "gitlab.job.queued_seconds"
	keyReason      = "gitlab.job.failure_reason"
	keyExitCode    = "gitlab.job.exit_code"
	keyPhase       = "gitlab.job.phase"
	keyDirective   = "gitlab.job.directive"
	keyCalls       = "gitlab.job.api_calls"
	keyEndpoint    = "gitlab.api.endpoint"
	keyWaited      = "gitlab.api.retry_wait_seconds"
	keyImagePolicy = "gitlab.image.pull_policy"
	keyResult      = "gitlab.transfer.result"
	keyBytes       = "gitlab.transfer.bytes"
	keyWhat        = "gitlab.degraded.what"
)
