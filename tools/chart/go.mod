// Makes the chart's README from its values.yaml.
module github.com/glassrunner/glassrunner/tools/chart

go 1.26.0
