// Package kubernetes_test tries what runs in a Kubernetes cluster on a real
// one: the Helm chart, and jobs as pods. The coordinator is a strict
// GitLab-compatible server of this process, which pods reach over real HTTP.
//
//	eval "$(scripts/cluster.sh start DIR)"   # and stop DIR at the end
//	scripts/test.sh kubernetes               # does all that is needed
//
// Without GLASSRUNNER_TEST_KUBECONFIG the tests are skipped, unless
// GLASSRUNNER_NEED_KUBERNETES says that there has to be a cluster.
package kubernetes_test

//go:generate go -C ../../tools/chart run . ../../deploy/helm/glassrunner
