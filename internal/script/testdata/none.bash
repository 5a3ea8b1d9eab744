notice "\x1b[0;33mWARNING: the variable \"bad-key\" is left out: shells do not accept its name\x1b[0;m"
notice "\x1b[32;1mSkipping Git repository setup\x1b[0;m"
notice "\x1b[32;1mSkipping Git checkout\x1b[0;m"
notice "\x1b[32;1mSkipping Git submodules setup\x1b[0;m"
mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
touch /builds/group/project.tmp/gitlab_runner_env
mkdir /builds/group/project -rwxrwxrwx
