@rem npm's scripts say exec, so that no shell stands between npm and the program: signals reach it. cmd.exe has no such
@rem word, and finds this file.
@%*
