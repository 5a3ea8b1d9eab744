mkdir /builds/group/project.tmp
write /builds/group/project.tmp/KUBECONFIG
    secret: 1
touch /builds/group/project.tmp/gitlab_runner_env
text
set -o xtrace
export CI_PROJECT_DIR=/builds/group/project
export NAME='it'\''s a $name
with "quotes"'
export KUBECONFIG=/builds/group/project.tmp/KUBECONFIG
export CI_PROJECT_PATH=group/project
export FF_SCRIPT_SECTIONS=true
export FF_ENABLE_BASH_EXIT_CODE_CHECK=true
export CI_DEBUG_TRACE=true
export GITLAB_ENV=/builds/group/project.tmp/gitlab_runner_env
if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID) ;; *) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi
cd /builds/group/project
printf '%s\n' '␛[32;1m$ echo one␛[0;m'
echo one
_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi
printf '%s\n' '␛[32;1m$ echo '\''two'\''␛[0;m'
echo 'two'
_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi
echo
printf '%s' section_start: "${EPOCHSECONDS:-$(date +%s)}" ':section_script_step_3[hide_duration=true,collapsed=true]␛[0K␛[32;1m$ if true; then
  echo three
fi␛[0;m
' section_end: "${EPOCHSECONDS:-$(date +%s)}" ':section_script_step_3␛[0K'
if true; then
  echo three
fi
_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi
printf '%s\n' '␛[32;1m$ echo back\␛[0;m'
echo back\

_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi
