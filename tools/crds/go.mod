// The Prometheus operator's definitions of resources, which are files of its
// module: the tests of the chart give them to the cluster.
module github.com/glassrunner/glassrunner/tools/crds

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
