remove /builds/group/project.tmp/gitlab_runner_env
remove /builds/group/project.tmp/masking.db
