notice "\x1b[32;1mGitaly correlation ID: 01JABC\x1b[0;m"
mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
write /builds/group/project.tmp/CI_SERVER_TLS_CA_FILE
    PEM
touch /builds/group/project.tmp/gitlab_runner_env
write /builds/group/project.tmp/.gitlab-runner.ext.conf
    [http]
    	extraHeader = "X-Gitaly-Correlation-ID: 01JABC"
    [transfer]
    	bundleURI = "true"
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
write /builds/group/project.tmp/.glr.gconf
    [include]
    	path = "~/.gitconfig"
    	path = "~/.config/git/config"
    	path = "/builds/group/project.tmp/.gitlab-runner.ext.conf"
text
export CI_PROJECT_DIR=/builds/group/project
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG=/builds/group/project.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export FF_USE_GIT_NATIVE_CLONE=true
export FF_USE_GIT_PROACTIVE_AUTH=true
export FF_GIT_URLS_WITHOUT_TOKENS=true
export FF_USE_GITALY_CORRELATION_ID=true
export FF_USE_GIT_BUNDLE_URIS=true
export CI_SERVER_TLS_CA_FILE=/builds/group/project.tmp/CI_SERVER_TLS_CA_FILE
export GITLAB_ENV=/builds/group/project.tmp/gitlab_runner_env
if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID) ;; *) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi
export GIT_CONFIG_GLOBAL=/builds/group/project.tmp/.glr.gconf
export GIT_TERMINAL_PROMPT=0
export GCM_INTERACTIVE=Never
export GIT_LFS_SKIP_SMUDGE=1
export GLR_EXT_GIT_CONFIG_PATH=/builds/group/project.tmp/.gitlab-runner.ext.conf
git config --global 'http.https://gitlab.example.com.sslCAInfo' /builds/group/project.tmp/CI_SERVER_TLS_CA_FILE
printf '%s\n' '␛[32;1m$ echo pre␛[0;m'
echo pre
printf '%s\n' '␛[32;1m$ echo job pre␛[0;m'
echo job pre
for glr in /builds/group/project; do if [ -d "$glr" ] && [ ! -L "$glr" ]; then chmod -R u+rwX "$glr" 2>/dev/null || :; fi; done; unset glr; rm -rf /builds/group/project
git config --global --add safe.directory /builds/group/project
case "$(git version)" in "git version "[01].*|"git version 2."[0-9].*|"git version 2."[0-3][0-9].*|"git version 2.4"[0-8].*)
printf '%s\n' '␛[32;1mFetching changes...␛[0;m'
git -c init.defaultBranch=none init /builds/group/project --template /builds/group/project.tmp/git-template --object-format sha256
cd /builds/group/project
if git remote add origin 'https://gitlab.example.com/group/project.git' >/dev/null 2>&1; then
printf '%s\n' '␛[32;1mCreated fresh repository.␛[0;m'
else
git remote set-url origin 'https://gitlab.example.com/group/project.git'
git config --replace-all include.path "$GLR_EXT_GIT_CONFIG_PATH"
fi
if [ -f .git/shallow ]; then
git -c 'http.userAgent=glassrunner 1.0.0 linux/amd64' -c 'http.https://gitlab.example.com.proactiveAuth=basic' fetch origin --no-recurse-submodules '+refs/pipelines/990:refs/pipelines/990' '+refs/heads/main:refs/remotes/origin/main' --prune --quiet --unshallow
else
git -c 'http.userAgent=glassrunner 1.0.0 linux/amd64' -c 'http.https://gitlab.example.com.proactiveAuth=basic' fetch origin --no-recurse-submodules '+refs/pipelines/990:refs/pipelines/990' '+refs/heads/main:refs/remotes/origin/main' --prune --quiet
fi
;; *)
printf '%s\n' '␛[32;1mCloning repository for refs/merge-requests/7/head...␛[0;m'
git -c 'http.userAgent=glassrunner 1.0.0 linux/amd64' -c 'http.https://gitlab.example.com.proactiveAuth=basic' -c "include.path=$GLR_EXT_GIT_CONFIG_PATH" clone --no-checkout 'https://gitlab.example.com/group/project.git' /builds/group/project --template /builds/group/project.tmp/git-template --revision refs/merge-requests/7/head
cd /builds/group/project
;; esac
printf '%s\n' '␛[32;1mChecking out 8f1c1c9f as detached HEAD (ref is refs/merge-requests/7/head)...␛[0;m'
git -c submodule.recurse=false -c 'http.https://gitlab.example.com.proactiveAuth=basic' checkout -f -q 8f1c1c9f0e6d7a5b4c3d2e1f0a9b8c7d6e5f4a3b
git clean -ffdx
if git lfs version >/dev/null 2>&1; then
git lfs pull
echo
fi
printf '%s\n' '␛[32;1mSkipping Git submodules setup␛[0;m'
printf '%s\n' '␛[32;1m$ echo job post␛[0;m'
echo job post
printf '%s\n' '␛[32;1m$ echo post␛[0;m'
echo post
if [ -f /builds/.gitlab-build-uid-gid ]; then
chown -R -- "$(cat /builds/.gitlab-build-uid-gid)" /builds
fi
printf '%s' 'url=https://gitlab.example.com
username=gitlab-ci-token

' | git credential reject >/dev/null 2>&1 || :
