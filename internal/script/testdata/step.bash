mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
touch /builds/group/project.tmp/gitlab_runner_env
text
export CI_PROJECT_DIR=/builds/group/project
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG=/builds/group/project.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export GITLAB_ENV=/builds/group/project.tmp/gitlab_runner_env
if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID) ;; *) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi
cd /builds/group/project
printf '%s\n' '␛[32;1m$ echo before␛[0;m'
echo before
printf '%s\n' '␛[32;1m$ echo one␛[0;m'
echo one
printf '%s\n' '␛[32;1m$ echo '\''two'\''␛[0;m'
echo 'two'
echo
printf '%s\n' '␛[32;1m$ if true; then # collapsed multi-line command␛[0;m'
if true; then
  echo three
fi
printf '%s\n' '␛[32;1m$ echo back\␛[0;m'
echo back\

printf '%s\n' '␛[32;1m$ echo # collapsed multi-line command␛[0;m'
echo
echo behind
