"""Speed, judged by ratios within one run or by counts; kept apart from the tests."""
