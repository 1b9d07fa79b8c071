@echo off
rem Development, end to end, on Windows: environment, data, features, training, evaluation, charts.
rem
rem   scripts\run_dev.bat            with a GPU and the Hub or cached weights: dev_whisper; else: nano_whisper
rem   scripts\run_dev.bat --smoke    the same in a minute or two, with tiny sizes, in outputs\smoke
rem   scripts\run_dev.bat --help     all options
rem
rem With an NVIDIA GPU, torch comes as a CUDA build from PyTorch's own index (scripts\setup_environment.py).
rem Set VIETST_PYTHON to use an interpreter as it is: nothing is installed then.
setlocal
cd /d "%~dp0.."
set PYTHONUTF8=1
chcp 65001 >nul

echo [1/6] Install
if defined VIETST_PYTHON goto :as_it_is

set "PYTHON="
for %%p in ("py -3.11" "py -3.12" "py -3.13" "py -3" "python") do if not defined PYTHON (
    %%~p -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>&1 && set "PYTHON=%%~p"
)
if not defined PYTHON goto :no_python
%PYTHON% scripts\setup_environment.py
if errorlevel 1 exit /b 2
.venv\Scripts\python.exe scripts\run_pipeline.py dev %*
exit /b %ERRORLEVEL%

:as_it_is
set "PYTHONPATH=%CD%;%PYTHONPATH%"
"%VIETST_PYTHON%" scripts\run_pipeline.py dev %*
exit /b %ERRORLEVEL%

:no_python
echo error: no Python 3.11 or newer found. Install one from https://www.python.org 1>&2
exit /b 2
