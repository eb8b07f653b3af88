"""Pictures that lie: mutations of valid ones by the thousand, and bombs made by hand."""
