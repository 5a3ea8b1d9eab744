remove /builds/group/project.tmp/gitlab_runner_env
remove /builds/group/project.tmp/masking.db
remove /builds/group/project.tmp/.gitlab-runner.ext.conf
remove /builds/group/project.tmp/.glr.gconf
remove /builds/group/project.tmp/KUBECONFIG
remove /builds/.gitlab-build-uid-gid
text
export CI_PROJECT_DIR=/builds/group/project
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG=/builds/group/project.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export FF_ENABLE_JOB_CLEANUP=true
export GIT_STRATEGY=fetch
export GIT_SUBMODULE_STRATEGY=normal
export GITLAB_ENV=/builds/group/project.tmp/gitlab_runner_env
printf '%s' 'url=https://gitlab.example.com
username=gitlab-ci-token

' | git credential reject >/dev/null 2>&1 || :
if [ -d /builds/group/project/.git ]; then
cd /builds/group/project
git clean -ffdx || :
git reset --hard || :
git submodule foreach 'git clean -ffdx' || :
git submodule foreach 'git reset --hard' || :
fi
for glr in /builds/group/project/.git/index.lock /builds/group/project/.git/shallow.lock /builds/group/project/.git/HEAD.lock /builds/group/project/.git/hooks/post-checkout /builds/group/project/.git/config.lock; do if [ -d "$glr" ] && [ ! -L "$glr" ]; then chmod -R u+rwX "$glr" 2>/dev/null || :; fi; done; unset glr; rm -rf /builds/group/project/.git/index.lock /builds/group/project/.git/shallow.lock /builds/group/project/.git/HEAD.lock /builds/group/project/.git/hooks/post-checkout /builds/group/project/.git/config.lock
if [ -d /builds/group/project/.git/modules ] && [ ! -L /builds/group/project/.git/modules ]; then find /builds/group/project/.git/modules ! -type d \( -name index.lock -o -name shallow.lock -o -name HEAD.lock -o -name post-checkout -o -name config.lock \) -exec rm -f {} +; fi
if [ -d /builds/group/project/.git/refs ] && [ ! -L /builds/group/project/.git/refs ]; then find /builds/group/project/.git/refs ! -type d \( -name '*.lock' \) -exec rm -f {} +; fi
for glr in /builds/group/project/.git/config /builds/group/project/.git/hooks /builds/group/project.tmp/git-template/config /builds/group/project.tmp/git-template/hooks; do if [ -d "$glr" ] && [ ! -L "$glr" ]; then chmod -R u+rwX "$glr" 2>/dev/null || :; fi; done; unset glr; rm -rf /builds/group/project/.git/config /builds/group/project/.git/hooks /builds/group/project.tmp/git-template/config /builds/group/project.tmp/git-template/hooks
if [ -d /builds/group/project/.git/modules ] && [ ! -L /builds/group/project/.git/modules ]; then find /builds/group/project/.git/modules ! -type d \( -name config -o -name applypatch-msg -o -name commit-msg -o -name fsmonitor-watchman -o -name 'p4-*' -o -name post-applypatch -o -name post-checkout -o -name post-commit -o -name post-index-change -o -name post-merge -o -name post-receive -o -name post-rewrite -o -name post-update -o -name pre-applypatch -o -name pre-auto-gc -o -name pre-commit -o -name pre-merge-commit -o -name pre-push -o -name pre-rebase -o -name pre-receive -o -name prepare-commit-msg -o -name proc-receive -o -name push-to-checkout -o -name reference-transaction -o -name sendemail-validate -o -name update \) -exec rm -f {} +; fi
