notice "\x1b[32;1mSkipping Git repository setup and creating an empty build directory\x1b[0;m"
notice "\x1b[32;1mSkipping Git checkout\x1b[0;m"
notice "\x1b[32;1mSkipping Git submodules setup\x1b[0;m"
mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
touch /builds/group/project.tmp/gitlab_runner_env
remove /builds/group/project
mkdir /builds/group/project -rwxrwxrwx
