notice "\x1b[32;1mSkipping the cleanup of the project directory: the job did not set it up\x1b[0;m"
remove /builds/group/project.tmp/gitlab_runner_env
remove /builds/group/project.tmp/masking.db
remove /builds/group/project.tmp/.gitlab-runner.ext.conf
remove /builds/group/project.tmp/.glr.gconf
remove /builds/group/project.tmp/KUBECONFIG
