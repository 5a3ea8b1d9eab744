mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
touch /builds/group/project.tmp/gitlab_runner_env
write /builds/group/project.tmp/.gitlab-runner.ext.conf
    [url "https://gitlab.example.com/"]
    	insteadOf = "ssh://git@ssh.example.com:2222/"
    [credential "https://gitlab.example.com"]
    	username = "gitlab-ci-token"
    	helper = ""
    	helper = "!f() { [ \"$1\" != get ] || printf 'username=%s\\npassword=%s\\n' gitlab-ci-token TOKEN-0123456789; }; f"
remove /builds/group/project.tmp/git-template
mkdir /builds/group/project.tmp/git-template
write /builds/group/project.tmp/git-template/config
    [init]
    	defaultBranch = "none"
    [fetch]
    	recurseSubmodules = "false"
    [credential]
    	interactive = "never"
    [gc]
    	autoDetach = "false"
    [include]
    	path = "/builds/group/project.tmp/.gitlab-runner.ext.conf"
remove /builds/group/project
text
export CI_PROJECT_DIR=/builds/group/project
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG=/builds/group/project.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export GIT_SUBMODULE_STRATEGY=recursive
export GIT_SUBMODULE_DEPTH=3
export GIT_SUBMODULE_PATHS='lib :(exclude)vendor'
export GIT_SUBMODULE_UPDATE_FLAGS='--remote --jobs 4'
export GIT_SUBMODULE_FORCE_HTTPS=1
export CI_SERVER_SHELL_SSH_HOST=ssh.example.com
export CI_SERVER_SHELL_SSH_PORT=2222
export GIT_CHECKOUT=false
export GITLAB_ENV=/builds/group/project.tmp/gitlab_runner_env
if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID) ;; *) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi
export GIT_TERMINAL_PROMPT=0
export GCM_INTERACTIVE=Never
export GIT_LFS_SKIP_SMUDGE=1
export GLR_EXT_GIT_CONFIG_PATH=/builds/group/project.tmp/.gitlab-runner.ext.conf
printf '%s\n' '␛[32;1mFetching changes with git depth set to 20...␛[0;m'
git -c init.defaultBranch=none init /builds/group/project --template /builds/group/project.tmp/git-template
cd /builds/group/project
if git remote add origin 'https://gitlab.example.com/group/project.git' >/dev/null 2>&1; then
printf '%s\n' '␛[32;1mCreated fresh repository.␛[0;m'
else
git remote set-url origin 'https://gitlab.example.com/group/project.git'
git config --replace-all include.path "$GLR_EXT_GIT_CONFIG_PATH"
fi
git -c 'http.userAgent=glassrunner 1.0.0 linux/amd64' fetch origin --no-recurse-submodules '+refs/pipelines/990:refs/pipelines/990' '+refs/heads/main:refs/remotes/origin/main' --depth 20 --prune --quiet
printf '%s\n' '␛[32;1mSkipping Git checkout␛[0;m'
printf '%s\n' '␛[32;1mUpdating/initializing submodules recursively with git depth set to 3...␛[0;m'
git submodule init
git submodule sync --recursive -- lib ':(exclude)vendor'
git submodule foreach --recursive 'git clean -ffdx'
git submodule foreach --recursive 'git reset --hard'
if git -c "include.path=$GLR_EXT_GIT_CONFIG_PATH" submodule update --init --recursive --depth 3 --remote --jobs 4 -- lib ':(exclude)vendor'; then
printf '%s\n' '␛[32;1mUpdated submodules␛[0;m'
git submodule sync --recursive -- lib ':(exclude)vendor'
else
printf '%s\n' '␛[0;33mUpdating submodules failed. Retrying...␛[0;m'
git submodule foreach --recursive 'git fetch origin '\''+refs/heads/*:refs/remotes/origin/*'\'''
git submodule sync --recursive -- lib ':(exclude)vendor'
git -c "include.path=$GLR_EXT_GIT_CONFIG_PATH" submodule update --init --recursive --depth 3 --remote --jobs 4 -- lib ':(exclude)vendor'
git submodule foreach --recursive 'git reset --hard'
fi
git submodule foreach --recursive 'git clean -ffdx'
printf '%s\n' '␛[32;1mConfiguring submodules to use parent git credentials...␛[0;m'
git submodule foreach --recursive 'git config --replace-all include.path "$GLR_EXT_GIT_CONFIG_PATH"'
if git lfs version >/dev/null 2>&1; then
printf '%s\n' '␛[32;1mPulling LFS files...␛[0;m'
git submodule foreach --recursive 'git lfs pull'
fi
printf '%s' 'url=https://gitlab.example.com
username=gitlab-ci-token

' | git credential reject >/dev/null 2>&1 || :
