package config

// The feature flags of GitLab Runner 19.4.
const (
	FFUseDirectDownload                    Flag = "FF_USE_DIRECT_DOWNLOAD"
	FFUseFastzip                           Flag = "FF_USE_FASTZIP"
	FFUsePodActiveDeadlineSeconds          Flag = "FF_USE_POD_ACTIVE_DEADLINE_SECONDS"
	FFSecretResolvingFailsIfMissing        Flag = "FF_SECRET_RESOLVING_FAILS_IF_MISSING"
	FFUseGitBundleURIs                     Flag = "FF_USE_GIT_BUNDLE_URIS"
	FFUseDockerAutoscalerDialStdio         Flag = "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO"
	FFTimestamps                           Flag = "FF_TIMESTAMPS"
	FFMaskAllDefaultTokens                 Flag = "FF_MASK_ALL_DEFAULT_TOKENS"
	FFUseExponentialBackoffStageRetry      Flag = "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY"
	FFUseAdaptiveRequestConcurrency        Flag = "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"
	FFUseGitalyCorrelationID               Flag = "FF_USE_GITALY_CORRELATION_ID"
	FFEnableJobInputsInterpolation         Flag = "FF_ENABLE_JOB_INPUTS_INTERPOLATION"
	FFTestFeature                          Flag = "FF_TEST_FEATURE"
	FFNetworkPerBuild                      Flag = "FF_NETWORK_PER_BUILD"
	FFUseLegacyKubernetesExecutionStrategy Flag = "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY"
	FFDisableUmaskForDockerExecutor        Flag = "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR"
	FFDisableUmaskForKubernetesExecutor    Flag = "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR"
	FFEnableBashExitCodeCheck              Flag = "FF_ENABLE_BASH_EXIT_CODE_CHECK"
	FFUseWindowsLegacyProcessStrategy      Flag = "FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY"
	FFUseWindowsJobObject                  Flag = "FF_USE_WINDOWS_JOB_OBJECT"
	FFUseLegacyBashEval                    Flag = "FF_USE_LEGACY_BASH_EVAL"
	FFUsePowershellPathResolver            Flag = "FF_USE_POWERSHELL_PATH_RESOLVER"
	FFDisablePowershellStdin               Flag = "FF_DISABLE_POWERSHELL_STDIN"
	FFUseDynamicTraceForceSendInterval     Flag = "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL"
	FFScriptSections                       Flag = "FF_SCRIPT_SECTIONS"
	FFEnableJobCleanup                     Flag = "FF_ENABLE_JOB_CLEANUP"
	FFKubernetesHonorEntrypoint            Flag = "FF_KUBERNETES_HONOR_ENTRYPOINT"
	FFPosixlyCorrectEscapes                Flag = "FF_POSIXLY_CORRECT_ESCAPES"
	FFResolveFullTLSChain                  Flag = "FF_RESOLVE_FULL_TLS_CHAIN"
	FFUseAdvancedPodSpecConfiguration      Flag = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION"
	FFPrintPodEvents                       Flag = "FF_PRINT_POD_EVENTS"
	FFUseGitNativeClone                    Flag = "FF_USE_GIT_NATIVE_CLONE"
	FFUseDumbInitWithKubernetesExecutor    Flag = "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR"
	FFUseInitWithDockerExecutor            Flag = "FF_USE_INIT_WITH_DOCKER_EXECUTOR"
	FFLogImagesConfiguredForJob            Flag = "FF_LOG_IMAGES_CONFIGURED_FOR_JOB"
	FFCleanUpFailedCacheExtract            Flag = "FF_CLEAN_UP_FAILED_CACHE_EXTRACT"
	FFDisableAutomaticTokenRotation        Flag = "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION"
	FFUseLegacyGCSCacheAdapter             Flag = "FF_USE_LEGACY_GCS_CACHE_ADAPTER"
	FFUseLegacyS3CacheAdapter              Flag = "FF_USE_LEGACY_S3_CACHE_ADAPTER"
	FFGitURLsWithoutTokens                 Flag = "FF_GIT_URLS_WITHOUT_TOKENS"
	FFWaitForPodToBeReachable              Flag = "FF_WAIT_FOR_POD_TO_BE_REACHABLE"
	FFExportHighCardinalityMetrics         Flag = "FF_EXPORT_HIGH_CARDINALITY_METRICS"
	FFUseFleetingAcquireHeartbeats         Flag = "FF_USE_FLEETING_ACQUIRE_HEARTBEATS"
	FFUseGitProactiveAuth                  Flag = "FF_USE_GIT_PROACTIVE_AUTH"
	FFHashCacheKeys                        Flag = "FF_HASH_CACHE_KEYS"
	FFUseJobRouter                         Flag = "FF_USE_JOB_ROUTER"
	FFScriptToStepMigration                Flag = "FF_SCRIPT_TO_STEP_MIGRATION"
	FFConcrete                             Flag = "FF_CONCRETE"
	FFSuspendableEnvironments              Flag = "FF_SUSPENDABLE_ENVIRONMENTS"
	FFUseParallelCacheTransfer             Flag = "FF_USE_PARALLEL_CACHE_TRANSFER"
	FFUseParallelArtifactTransfer          Flag = "FF_USE_PARALLEL_ARTIFACT_TRANSFER"
	FFUseNativeContainerStop               Flag = "FF_USE_NATIVE_CONTAINER_STOP"
)

// allFlags returns the table of all feature flags in the order of their
// documentation.
func allFlags() []FlagInfo {
	return []FlagInfo{
		{FFUseDirectDownload, true, Ignored, false, "Download artifacts directly from object storage when GitLab redirects there."},
		{FFUseFastzip, true, Ignored, false, "Use the quick archiver for caches and artifacts; GitLab removes the flag in 19.7."},
		{FFUsePodActiveDeadlineSeconds, true, Ignored, false, "Give pods the timeout of the job as their deadline."},
		{FFSecretResolvingFailsIfMissing, true, Ignored, false, "Fail a job whose secret does not exist."},
		{FFUseGitBundleURIs, true, Effective, false, "Let git fetch from bundles that the server offers."},
		{FFUseDockerAutoscalerDialStdio, true, Ignored, false, "Reach the Docker daemon of an instance through docker system dial-stdio."},
		{FFTimestamps, true, Effective, false, "Put a time stamp before every line of the job log."},
		{FFMaskAllDefaultTokens, true, Effective, false, "Mask everything in the job log that has a prefix of GitLab's tokens."},
		{FFUseExponentialBackoffStageRetry, true, Effective, false, "Pause longer and longer between attempts of a stage."},
		{FFUseAdaptiveRequestConcurrency, true, Effective, true, "Adapt the number of requests for jobs to how many bring one."},
		{FFUseGitalyCorrelationID, true, Effective, false, "Send the correlation id of the job with git requests."},
		{FFEnableJobInputsInterpolation, true, Effective, false, "Replace job inputs in scripts."},
		{FFTestFeature, false, Ignored, false, "No effect; GitLab's own tests use it."},
		{FFNetworkPerBuild, false, Ignored, false, "Create a Docker network for every job."},
		{FFUseLegacyKubernetesExecutionStrategy, false, Ignored, false, "Run scripts in pods with exec instead of attach."},
		{FFDisableUmaskForDockerExecutor, false, Ignored, false, "Keep the umask of Docker images and change owners instead."},
		{FFDisableUmaskForKubernetesExecutor, false, Ignored, false, "Keep the umask of images in pods and change owners instead."},
		{FFEnableBashExitCodeCheck, false, Effective, false, "Check the exit code after every line of a script."},
		{FFUseWindowsLegacyProcessStrategy, false, Ignored, false, "Start processes on Windows as older versions did."},
		{FFUseWindowsJobObject, false, Ignored, false, "Put the processes of a job into a Windows job object."},
		{FFUseLegacyBashEval, false, Effective, false, "Run scripts through a pipe to the shell as older versions did."},
		{FFUsePowershellPathResolver, false, Ignored, false, "Let PowerShell resolve paths instead of the runner."},
		{FFDisablePowershellStdin, false, Ignored, false, "Give PowerShell scripts as files instead of standard input."},
		{FFUseDynamicTraceForceSendInterval, false, Ignored, false, "Adapt how often an unchanged log is reported to the interval that GitLab gives."},
		{FFScriptSections, false, Effective, false, "Make each command of several lines a section of the job log."},
		{FFEnableJobCleanup, false, Effective, false, "Clean the working copy at the end of a job."},
		{FFKubernetesHonorEntrypoint, false, Ignored, false, "Keep the entrypoint of images in pods."},
		{FFPosixlyCorrectEscapes, false, Ignored, false, "Quote with POSIX notation instead of that of bash."},
		{FFResolveFullTLSChain, false, Effective, true, "Give jobs the chain of GitLab's certificate up to its root."},
		{FFUseAdvancedPodSpecConfiguration, false, Ignored, false, "Apply the patches of pod_spec."},
		{FFPrintPodEvents, false, Ignored, false, "Print the events of a pod while waiting for it."},
		{FFUseGitNativeClone, false, Effective, false, "Use git clone when git is 2.49 or newer."},
		{FFUseDumbInitWithKubernetesExecutor, false, Ignored, false, "Start an init process in pods."},
		{FFUseInitWithDockerExecutor, false, Ignored, false, "Start an init process in Docker containers."},
		{FFLogImagesConfiguredForJob, false, Ignored, false, "Write the images of a job to the process log."},
		{FFCleanUpFailedCacheExtract, false, Ignored, false, "Remove what a failed extraction of a cache left."},
		{FFDisableAutomaticTokenRotation, false, Effective, true, "Do not renew the runner's token before it expires."},
		{FFUseLegacyGCSCacheAdapter, false, Ignored, false, "Use the older access to Google Cloud Storage."},
		{FFUseLegacyS3CacheAdapter, false, Ignored, false, "Use the older access to S3."},
		{FFGitURLsWithoutTokens, false, Effective, false, "Give git credentials through a helper instead of in URLs."},
		{FFWaitForPodToBeReachable, false, Ignored, false, "Wait until a pod can be attached to."},
		{FFExportHighCardinalityMetrics, false, Effective, false, "Export the duration of every stage."},
		{FFUseFleetingAcquireHeartbeats, false, Ignored, false, "Check the connection to an instance before a job gets it."},
		{FFUseGitProactiveAuth, false, Effective, false, "Let git send credentials without being asked."},
		{FFHashCacheKeys, false, Ignored, false, "Use a SHA-256 of cache keys as their file names."},
		{FFUseJobRouter, false, Ignored, true, "Receive jobs through GitLab's job router."},
		{FFScriptToStepMigration, false, Ignored, false, "Run scripts as steps."},
		{FFConcrete, false, Ignored, false, "Run the whole job as steps."},
		{FFSuspendableEnvironments, false, Ignored, false, "Let environments be suspended and resumed."},
		{FFUseParallelCacheTransfer, false, Ignored, false, "Transfer the parts of a cache in parallel."},
		{FFUseParallelArtifactTransfer, false, Ignored, false, "Transfer the parts of an artifact in parallel."},
		{FFUseNativeContainerStop, false, Ignored, false, "Leave ending the processes of a container to Docker."},
	}
}
