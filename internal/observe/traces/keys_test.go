package traces

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

func TestKeysAreThoseOfTheConventions(t *testing.T) {
	if schemaURL != semconv.SchemaURL {
		t.Errorf("schema %s, want %s", schemaURL, semconv.SchemaURL)
	}
	for got, want := range map[string]attribute.Key{
		keyTaskName: semconv.CICDPipelineTaskNameKey, keyTaskID: semconv.CICDPipelineTaskRunIDKey, keyTaskURL: semconv.CICDPipelineTaskRunURLFullKey,
		keyTaskResult: semconv.CICDPipelineTaskRunResultKey, keyPipelineName: semconv.CICDPipelineNameKey, keyPipelineID: semconv.CICDPipelineRunIDKey,
		keyWorkerID: semconv.CICDWorkerIDKey, keyWorkerName: semconv.CICDWorkerNameKey, keyWorkerState: semconv.CICDWorkerStateKey,
		keyComponent: semconv.CICDSystemComponentKey, keyRepository: semconv.VCSRepositoryURLFullKey, keyErrorType: semconv.ErrorTypeKey,
		keyMethod: semconv.HTTPRequestMethodKey, keyStatusCode: semconv.HTTPResponseStatusCodeKey, keyResend: semconv.HTTPRequestResendCountKey,
		keyURLTemplate: semconv.URLTemplateKey,
	} {
		if attribute.Key(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for got, want := range map[string]string{
		resultSuccess: semconv.CICDPipelineTaskRunResultSuccess.Value.AsString(), resultFailure: semconv.CICDPipelineTaskRunResultFailure.Value.AsString(),
		resultError: semconv.CICDPipelineTaskRunResultError.Value.AsString(), resultTimeout: semconv.CICDPipelineTaskRunResultTimeout.Value.AsString(),
		resultCanceled: semconv.CICDPipelineTaskRunResultCancellation.Value.AsString(),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
