mkdir builds/p.tmp
write builds/p.tmp/KUBECONFIG
    secret: 1
touch builds/p.tmp/gitlab_runner_env
write builds/p.tmp/.gitlab-runner.ext.conf
    [credential "https://gitlab.example.com"]
    	username = "gitlab-ci-token"
    	helper = ""
    	helper = "!f() { [ \"$1\" != get ] || printf 'username=%s\\npassword=%s\\n' gitlab-ci-token TOKEN-0123456789; }; f"
remove builds/p.tmp/git-template
mkdir builds/p.tmp/git-template
write builds/p.tmp/git-template/config
    [init]
    	defaultBranch = "none"
    [fetch]
    	recurseSubmodules = "false"
    [credential]
    	interactive = "never"
    [gc]
    	autoDetach = "false"
remove builds/p
text
GLR_PWD=$PWD
export CI_PROJECT_DIR="$GLR_PWD"/builds/p
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG="$GLR_PWD"/builds/p.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export GITLAB_ENV="$GLR_PWD"/builds/p.tmp/gitlab_runner_env
if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID) ;; *) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi
export GIT_TERMINAL_PROMPT=0
export GCM_INTERACTIVE=Never
export GIT_LFS_SKIP_SMUDGE=1
export GLR_EXT_GIT_CONFIG_PATH="$GLR_PWD"/builds/p.tmp/.gitlab-runner.ext.conf
git config --file "$GLR_PWD"/builds/p.tmp/git-template/config include.path "$GLR_EXT_GIT_CONFIG_PATH"
printf '%s\n' '␛[32;1mFetching changes with git depth set to 20...␛[0;m'
git -c init.defaultBranch=none init "$GLR_PWD"/builds/p --template "$GLR_PWD"/builds/p.tmp/git-template
cd "$GLR_PWD"/builds/p
if git remote add origin 'https://gitlab.example.com/group/project.git' >/dev/null 2>&1; then
printf '%s\n' '␛[32;1mCreated fresh repository.␛[0;m'
else
git remote set-url origin 'https://gitlab.example.com/group/project.git'
git config --replace-all include.path "$GLR_EXT_GIT_CONFIG_PATH"
fi
git -c 'http.userAgent=glassrunner 1.0.0 linux/amd64' fetch origin --no-recurse-submodules '+refs/pipelines/990:refs/pipelines/990' '+refs/heads/main:refs/remotes/origin/main' --depth 20 --prune --quiet
printf '%s\n' '␛[32;1mChecking out 8f1c1c9f as detached HEAD (ref is main)...␛[0;m'
git -c submodule.recurse=false checkout -f -q 8f1c1c9f0e6d7a5b4c3d2e1f0a9b8c7d6e5f4a3b
git clean -ffdx
if git lfs version >/dev/null 2>&1; then
git lfs pull
echo
fi
printf '%s\n' '␛[32;1mSkipping Git submodules setup␛[0;m'
printf '%s' 'url=https://gitlab.example.com
username=gitlab-ci-token

' | git credential reject >/dev/null 2>&1 || :
